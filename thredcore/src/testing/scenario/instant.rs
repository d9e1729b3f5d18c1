//! Points in time as scenario files write them: RFC 3339, in UTC.

use serde_json::Value;

const DAY_MS: i64 = 86_400_000;

/// Reads a point in time as milliseconds since the Unix epoch: a number of them, or a text as
/// `"2026-01-01T00:00:00Z"`.
///
/// # Errors
/// Says what a point in time looks like.
pub fn parse_instant(value: &Value) -> Result<i64, String> {
    let ms = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => parse_text(text),
        _ => None,
    };
    ms.ok_or_else(|| {
        format!(
            "{value} is no point in time; write a UTC time as \"2026-01-01T00:00:00Z\", or \
             milliseconds since 1970"
        )
    })
}

/// Writes milliseconds since the Unix epoch as RFC 3339 in UTC, with milliseconds.
pub fn format_instant(ms: i64) -> String {
    let (days, time) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, milli) = (time / 1_000 % 60, time % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn parse_text(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let milli: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let days = days_from_civil(year, month, day);
    // A day that there is not (February 30) comes back as another one.
    (civil(days) == (year, month, day))
        .then(|| days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1_000 + milli)
}

fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        let digits = part.len() == width && part.bytes().all(|b| b.is_ascii_digit());
        *number = digits.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

// Both from Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{format_instant, parse_instant};

    #[test]
    fn reads_what_it_writes() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2026-01-01T00:00:00.000Z", 1_767_225_600_000),
            ("2024-02-29T23:59:59.250Z", 1_709_251_199_250),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse_instant(&json!(text)), Ok(ms), "{text}");
            assert_eq!(format_instant(ms), text);
        }
        assert_eq!(parse_instant(&json!("2026-01-01T00:00:00Z")), Ok(1_767_225_600_000));
        assert_eq!(parse_instant(&json!(7)), Ok(7));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for wrong in [
            "2026-02-30T00:00:00Z",
            "2026-01-01",
            "2026-01-01T24:00:00Z",
            "2026-1-1T00:00:00Z",
            "Z",
        ] {
            assert!(parse_instant(&json!(wrong)).is_err(), "{wrong}");
        }
    }
}
