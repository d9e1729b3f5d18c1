//! Integers in an expression's text that a double cannot hold.
//!
//! The parser reads every number as a double. So such integers are hidden from it in texts with a
//! mark, and what the tree has in their place is put right afterwards.

use jsonata_core::ast::{AstNode, UnaryOp};

use super::{exact, guard::map_children};
use crate::json::exact::{exceeds_double, to_json};

/// Begins the text that stands for an integer; ends in a character that no text has.
const MARK: &str = "integer \u{10ffff}";

/// Fewer digits always fit a double.
const DIGITS: usize = 16;

/// An integer that nothing can hold, and where it begins, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) at: usize,
}

/// The source with its large integers hidden; `None` when there are none.
pub(super) fn hide(source: &str) -> Result<Option<String>, TooLarge> {
    let mut hidden = String::new();
    let mut copied = 0;
    for (start, end) in integers(source) {
        let digits = &source[start..end];
        let n = digits.parse::<i128>().map_err(|_| TooLarge { at: start })?;
        if !exceeds_double(n) {
            continue;
        }
        if to_json(n).is_none() {
            return Err(TooLarge { at: start });
        }
        hidden.push_str(&source[copied..start]);
        hidden.extend(["\"", MARK, digits, "\""]);
        copied = end;
    }
    if copied == 0 {
        return Ok(None);
    }
    hidden.push_str(&source[copied..]);
    Ok(Some(hidden))
}

/// Puts the integers in again.
pub(super) fn restore(ast: AstNode) -> AstNode {
    let ast = map_children(ast, &mut restore);
    match &ast {
        AstNode::String(text) => match hidden_integer(text) {
            Some(n) => exact::literal(n),
            None => ast,
        },
        AstNode::Unary { op: UnaryOp::Negate, operand } => match exact::literal_value(operand) {
            Some(n) => exact::literal(-n),
            None => ast,
        },
        _ => ast,
    }
}

fn hidden_integer(text: &str) -> Option<i128> {
    text.strip_prefix(MARK)?.parse().ok()
}

/// Where integers of many digits begin and end; what stands in texts, names, comments and regular
/// expressions is none.
fn integers(source: &str) -> Vec<(usize, usize)> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    // Whether an operand has just ended, after which `/` divides.
    let mut operand = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' | b'`' => {
                at = after_quoted(bytes, at);
                operand = true;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = source[at + 2..].find("*/").map_or(bytes.len(), |end| at + 2 + end + 2);
            }
            b'/' if !operand => {
                at = after_regex(bytes, at);
                operand = true;
            }
            b'0'..=b'9' => {
                let end = after(bytes, at, u8::is_ascii_digit);
                let fraction = bytes.get(end) == Some(&b'.')
                    && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
                let exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
                if !fraction && !exponent && end - at >= DIGITS {
                    found.push((at, end));
                }
                // The digits after a point are no integer of their own.
                at = if fraction { after(bytes, end + 1, u8::is_ascii_digit) } else { end };
                operand = true;
            }
            byte if is_word(&byte) => {
                let end = after(bytes, at, is_word);
                operand = !matches!(&source[at..end], "and" | "or" | "in");
                at = end;
            }
            byte => {
                if !byte.is_ascii_whitespace() {
                    operand = matches!(byte, b')' | b']' | b'}');
                }
                at += 1;
            }
        }
    }
    found
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn after(bytes: &[u8], from: usize, belongs: impl Fn(&u8) -> bool) -> usize {
    bytes[from..].iter().position(|byte| !belongs(byte)).map_or(bytes.len(), |end| from + end)
}

fn after_quoted(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'\\' if bytes[start] != b'`' => 2,
            byte if byte == bytes[start] => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

fn after_regex(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start + 1, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'/' if depth == 0 => return at + 1,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn hides(source: &str, expected: &str) {
        let hidden = hide(source).unwrap().unwrap_or_else(|| source.to_owned());
        assert_eq!(hidden.replace(MARK, "#"), expected);
    }

    #[test]
    fn only_integers_that_a_double_cannot_hold_are_hidden() {
        hides("a = 9007199254740993", "a = \"#9007199254740993\"");
        hides("[9007199254740993..9007199254740992]", "[\"#9007199254740993\"..9007199254740992]");
        hides("a9007199254740993 & $b9007199254740993", "a9007199254740993 & $b9007199254740993");
        hides("9007199254740993.5 + 9007199254740993e1", "9007199254740993.5 + 9007199254740993e1");
        hides("1.9007199254740993", "1.9007199254740993");
    }

    #[test]
    fn texts_names_comments_and_regular_expressions_are_left_alone() {
        for source in [
            "'9007199254740993'",
            r#""\"9007199254740993""#,
            "`9007199254740993`",
            "/* 9007199254740993 */ 1",
            "$contains(a, /9007199254740993[/]9007199254740993/)",
        ] {
            hides(source, source);
        }
        hides("(a) / 9007199254740993 / b", "(a) / \"#9007199254740993\" / b");
        hides("a in /x/ or 9007199254740993", "a in /x/ or \"#9007199254740993\"");
    }

    #[test]
    fn an_integer_beyond_64_bits_is_refused_where_it_stands() {
        assert_eq!(hide("1 + 18446744073709551617"), Err(TooLarge { at: 4 }));
        assert_eq!(hide(&"9".repeat(60)), Err(TooLarge { at: 0 }));
        assert_eq!(hide("100000000000000000000"), Ok(None));
    }
}
