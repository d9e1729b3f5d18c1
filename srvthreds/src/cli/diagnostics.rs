//! What is wrong with a file, shown with the line it stands on.

use std::{
    io::{self, Write},
    ops::Range,
};

use serde_json::{Value, json};
use thredlib::validate::{Finding, Severity, Spot};

use super::{
    files::{Position, SourceFile, Unreadable},
    spans::Spans,
};

/// One thing that is wrong with a file.
#[derive(Debug)]
pub(crate) struct Diagnostic {
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: String,
    /// The place in the file's text, in bytes.
    pub(crate) range: Range<usize>,
    /// The JSON path of the place.
    pub(crate) path: String,
    /// The id of the pattern.
    pub(crate) pattern: Option<String>,
}

impl Diagnostic {
    /// Finds the place of a finding in the text that it was found in.
    pub(crate) fn of(finding: &Finding, text: &str, spans: &Spans) -> Self {
        Self {
            severity: finding.severity,
            code: finding.code,
            message: finding.message.clone(),
            help: finding.help.clone(),
            range: locate(finding, text, spans),
            path: finding.path.to_string(),
            pattern: finding.pattern.as_ref().map(ToString::to_string),
        }
    }

    /// The diagnostic as one JSON object, for programs.
    pub(crate) fn to_json(&self, file: &SourceFile) -> Value {
        let (start, end) = (file.position(self.range.start), file.position(self.range.end));
        json!({
            "severity": self.severity.as_str(),
            "code": self.code,
            "message": self.message,
            "help": self.help,
            "file": file.name,
            "line": start.line,
            "column": start.column,
            "endLine": end.line,
            "endColumn": end.column,
            "path": self.path,
            "pattern": self.pattern,
        })
    }
}

fn locate(finding: &Finding, text: &str, spans: &Spans) -> Range<usize> {
    if let Spot::Text { line, column } = finding.spot {
        let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let chars = text[start..].char_indices().nth(column - 1);
        return one_char(text, chars.map_or(text.len(), |(at, _)| start + at));
    }
    let Some(span) = spans.get(&finding.path) else { return one_char(text, 0) };
    let whole = &text[span.value.clone()];
    match (finding.spot, &span.key) {
        (Spot::Key, Some(key)) => key.clone(),
        (Spot::Char(column), _) if whole.starts_with('"') => {
            in_string(text, span.value.clone(), column)
        }
        // Underlining an object as a whole shows nothing; its key or its brace is enough.
        (_, Some(key)) if whole.starts_with(['{', '[']) => key.clone(),
        _ if whole.starts_with(['{', '[']) => one_char(text, span.value.start),
        _ => span.value.clone(),
    }
}

/// The word at a character of a JSON string; an escape counts as the character it stands for.
fn in_string(text: &str, string: Range<usize>, column: usize) -> Range<usize> {
    let end = string.end - 1;
    let mut at = string.start + 1;
    for _ in 1..column {
        at += escaped_length(&text[at..end]);
    }
    if at >= end {
        return end..string.end;
    }
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let first = escaped_length(&text[at..end]);
    let rest = &text[at + first..end];
    let word = if text[at..].starts_with(|c| in_word(c) || c == '$') {
        rest.find(|c| !in_word(c)).unwrap_or(rest.len())
    } else {
        0
    };
    at..at + first + word
}

/// The bytes that the first character of a JSON string's inside takes.
fn escaped_length(inside: &str) -> usize {
    let Some(escape) = inside.strip_prefix('\\') else {
        return inside.chars().next().map_or(0, char::len_utf8);
    };
    let hex = |text: &str| u32::from_str_radix(text.get(1..5)?, 16).ok();
    match escape.strip_prefix('u').and_then(|_| hex(escape)) {
        Some(0xD800..0xDC00) => 12.min(inside.len()),
        Some(_) => 6,
        None => 2,
    }
}

fn one_char(text: &str, at: usize) -> Range<usize> {
    at..at + text[at..].chars().next().map_or(0, char::len_utf8)
}

/// Writes diagnostics for people, the way rustc does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) colours: bool,
}

impl Printer {
    pub(crate) fn diagnostic(
        self,
        out: &mut impl Write,
        file: &SourceFile,
        diagnostic: &Diagnostic,
    ) -> io::Result<()> {
        let Diagnostic { severity, code, message, help, range, .. } = diagnostic;
        let position = file.position(range.start);
        let excerpt = Excerpt::of(&file.text, range);
        let number = position.line.to_string();
        let margin = " ".repeat(number.len());
        let colour = match severity {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
            Severity::Note => BLUE,
        };
        let bar = self.paint(BLUE, "|");
        let title = self.paint(colour, &format!("{severity}[{code}]"));
        writeln!(out, "{title}{}", self.paint(BOLD, &format!(": {}", printable(message))))?;
        let Position { line, column } = position;
        let arrow = self.paint(BLUE, "-->");
        writeln!(out, "{margin}{arrow} {}:{line}:{column}", printable(&file.name))?;
        writeln!(out, "{margin} {bar}")?;
        writeln!(out, "{} {bar} {}", self.paint(BLUE, &number), excerpt.line)?;
        let carets = self.paint(colour, &"^".repeat(excerpt.length));
        writeln!(out, "{margin} {bar} {}{carets}", " ".repeat(excerpt.indent))?;
        let label = self.paint(BOLD, "help");
        writeln!(out, "{margin} {} {label}: {}\n", self.paint(BLUE, "="), printable(help))
    }

    /// To standard error, so that it does not get lost among the findings or in a JSON document.
    pub(crate) fn unreadable(unreadable: &Unreadable) {
        let Unreadable { name, reason } = unreadable;
        eprintln!("error: cannot read {}: {}", printable(name), printable(reason));
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colours { format!("{colour}{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const BLUE: &str = "\u{1b}[1;34m";

/// The line of a place, cut to what fits, and what to underline in it.
#[derive(Debug, PartialEq)]
struct Excerpt {
    line: String,
    /// Characters before the place.
    indent: usize,
    /// Characters of the place, at least 1.
    length: usize,
}

impl Excerpt {
    fn of(text: &str, range: &Range<usize>) -> Self {
        // Characters of a line that are shown, and how many of them before the place.
        const WIDTH: usize = 110;
        const BEFORE: usize = 40;
        let start = text[..range.start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let before = text[start..range.start].char_indices().rev().nth(BEFORE - 1);
        // A minified file is one long line: nothing here may walk all of it.
        let long = text[start..end].chars().nth(WIDTH).is_some();
        let cut = before.map_or(0, |(at, _)| at);
        let from = start + if long { cut } else { 0 };
        let shown = text[from..end].trim_end_matches('\r');
        let mut line: String = printable(&shown.chars().take(WIDTH).collect::<String>());
        let mut indent = text[from..range.start].chars().count();
        let place = text[range.start..range.end.clamp(range.start, end)].chars();
        let length = place.take(WIDTH.saturating_sub(indent)).count().max(1);
        if from > start {
            line.insert(0, '…');
            indent += 1;
        }
        if shown.chars().nth(WIDTH).is_some() {
            line.push('…');
        }
        Self { line, indent, length }
    }
}

/// The text with one harmless character for each control character: a file must not command the
/// terminal.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(text: &str, column: usize) -> &str {
        &text[in_string(text, 0..text.len(), column)]
    }

    #[test]
    fn characters_in_strings() {
        assert_eq!(under(r#""ab $cde.f""#, 4), "$cde");
        assert_eq!(under(r#""\"\u00e9\ud83d\ude00é\\x""#, 4), "é");
        assert_eq!(under(r#""\"\u00e9\ud83d\ude00é\\x""#, 3), r"\ud83d\ude00");
        assert_eq!(under(r#""\"\u00e9\ud83d\ude00é\\x""#, 6), "x");
        assert_eq!(under(r#""ab""#, 3), "\"");
        assert_eq!(under(r#""ab""#, 99), "\"");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("first\n{}HERE{}\r\nlast", "a".repeat(5000), "b".repeat(5000));
        let start = text.find("HERE").unwrap();
        let excerpt = Excerpt::of(&text, &(start..start + 4));
        let shown: String = excerpt.line.chars().skip(excerpt.indent).take(4).collect();
        assert_eq!((shown.as_str(), excerpt.length), ("HERE", 4));
        assert!(excerpt.line.chars().count() < 120);
    }

    #[test]
    fn tabs_control_characters_and_the_end_of_the_text() {
        let text = "\t\u{1b}x";
        assert_eq!(
            Excerpt::of(text, &(2..3)),
            Excerpt { line: " \u{fffd}x".into(), indent: 2, length: 1 }
        );
        assert_eq!(
            Excerpt::of(text, &(3..3)),
            Excerpt { line: " \u{fffd}x".into(), indent: 3, length: 1 }
        );
        assert_eq!(Excerpt::of("", &(0..0)), Excerpt { line: String::new(), indent: 0, length: 1 });
    }
}
