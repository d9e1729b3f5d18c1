//! Spans of time as scenario files write them.

use serde_json::Value;

/// Reads a span of time, in milliseconds: a number of them, or a text with a unit: `"250ms"`,
/// `"10s"`, `"5m"`, `"2h"`.
///
/// ```
/// use thredcore::testing::scenario::parse_duration;
/// assert_eq!(parse_duration(&"10s".into()), Ok(10_000));
/// assert!(parse_duration(&"10 parsecs".into()).is_err());
/// ```
///
/// # Errors
/// Says what a span of time looks like.
pub fn parse_duration(value: &Value) -> Result<i64, String> {
    let ms = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => parse_text(text),
        _ => None,
    };
    ms.filter(|ms| *ms >= 0).ok_or_else(|| {
        format!(
            "{value} is no span of time; write milliseconds, or a text as \"250ms\", \"10s\", \
             \"5m\" or \"2h\""
        )
    })
}

fn parse_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(split);
    let unit = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    count.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse_duration;

    #[test]
    fn numbers_are_milliseconds_and_texts_carry_a_unit() {
        let spans = [json!(5), json!("5ms"), json!("5s"), json!("5m"), json!("5h"), json!("5 s")];
        let read: Vec<_> = spans.iter().map(|span| parse_duration(span).unwrap()).collect();
        assert_eq!(read, [5, 5, 5_000, 300_000, 18_000_000, 5_000]);
    }

    #[test]
    fn everything_else_is_refused_with_the_remedy() {
        for wrong in [json!("5"), json!("5d"), json!("s"), json!(-1), json!(1.5), json!(null)] {
            let error = parse_duration(&wrong).unwrap_err();
            assert!(error.contains("write milliseconds"), "{wrong}: {error}");
        }
        assert!(parse_duration(&json!("9223372036854775807h")).is_err());
    }
}
