//! Texts for people: times, tables, values.

use std::io::{self, Write};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::diagnostics::printable;

/// A time in the zone of the machine, or what TZ says; `-` for none.
pub(crate) fn time(ms: impl Into<Option<i64>>) -> String {
    let Some(ms) = ms.into() else { return "-".to_owned() };
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(zone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        // Beyond the calendar.
        Err(_) => format!("{ms} ms"),
    }
}

fn zone() -> TimeZone {
    // Tests compare texts, wherever they run.
    if cfg!(test) { TimeZone::UTC } else { TimeZone::system() }
}

/// A JSON value in a line, cut to what fits.
pub(crate) fn value(value: &Value) -> String {
    const WIDTH: usize = 160;
    shortened(&value.to_string(), WIDTH)
}

/// The beginning of a text.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let mut short: String = text.chars().take(width).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    printable(&short)
}

/// How many of something.
pub(crate) fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// Rows in aligned columns, under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)).to_vec());
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.chars().count();
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', padding + 2));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["ID", "WHAT"]);
        table.row(["größe".to_owned(), "a\nb".to_owned()]);
        table.row(["x".to_owned(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ID     WHAT\ngröße  a\u{fffd}b\nx\n");
    }

    #[test]
    fn times_beyond_the_calendar_are_numbers() {
        assert_eq!(time(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!(time(None), "-");
    }
}
