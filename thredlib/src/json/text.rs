//! What JSON's reader takes or refuses without saying enough.

use std::fmt::{self, Write};

/// The mark that some editors and exports put in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Fewer digits always fit 64 bits.
const DIGITS: usize = 19;

/// The bytes without a byte order mark in front.
pub fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json)
}

/// What is wrong in a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFault {
    /// The place, as `data.content.values.n[0]`; `.` for the whole.
    pub path: String,
    /// What is wrong there.
    pub reason: Reason,
    /// Where it begins, in bytes.
    pub at: usize,
}

/// What is wrong in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Half of a surrogate pair, as it is written.
    LoneSurrogate(String),
    /// An integer that 64 bits cannot hold.
    IntegerTooLarge(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoneSurrogate(escape) => write!(
                f,
                "`{escape}` is half of a surrogate pair, which is no character; the text was \
                 probably cut in the middle of one"
            ),
            Self::IntegerTooLarge(integer) => {
                write!(f, "the integer {integer} is beyond 64 bits; send it as a text")
            }
        }
    }
}

/// The first half of a surrogate pair that stands alone in a text, if there is one. The text need
/// not be whole.
pub fn lone_surrogate(json: &[u8]) -> Option<TextFault> {
    Scan::new(json).find(|scan, token| match token {
        Token::Text { start, end } => scan.surrogate_in(start, end),
        Token::Number { .. } => None,
    })
}

/// The first integer beyond 64 bits in a text that is JSON, if there is one: the reader would round
/// it.
pub fn integer_too_large(json: &[u8]) -> Option<TextFault> {
    // So many digits in a row cover one of these places.
    let digit_at = |at: &usize| json[*at].is_ascii_digit();
    let may_have = (DIGITS - 1..json.len()).step_by(DIGITS).filter(digit_at).any(|at| {
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        let before = json[..at].iter().rev().take(DIGITS).take_while(is_digit).count();
        let behind = json[at..].iter().take(DIGITS).take_while(is_digit).count();
        before + behind >= DIGITS
    });
    if !may_have {
        return None;
    }
    Scan::new(json).find(|scan, token| match token {
        Token::Number { start, end } => {
            let text = std::str::from_utf8(&scan.json[start..end]).ok()?;
            let is_integer = !text.contains(['.', 'e', 'E']);
            let fits = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
            (is_integer && !fits).then(|| (start, Reason::IntegerTooLarge(text.to_owned())))
        }
        Token::Text { .. } => None,
    })
}

/// A token that is looked at; its quotes are no part of a text.
#[derive(Clone, Copy)]
enum Token {
    Text { start: usize, end: usize },
    Number { start: usize, end: usize },
}

/// A step on the way to a place.
enum Segment {
    /// The name of a member, by its bytes.
    Name(usize, usize),
    Index(usize),
    /// In an object before its first name.
    Object,
}

/// Goes through the tokens of a text and knows where it is.
struct Scan<'j> {
    json: &'j [u8],
    at: usize,
    path: Vec<Segment>,
    /// Whether the next text is the name of a member.
    name: bool,
}

impl<'j> Scan<'j> {
    fn new(json: &'j [u8]) -> Self {
        Self { json, at: 0, path: Vec::new(), name: false }
    }

    fn find(
        mut self,
        mut fault: impl FnMut(&Self, Token) -> Option<(usize, Reason)>,
    ) -> Option<TextFault> {
        while let Some(&byte) = self.json.get(self.at) {
            let token = match byte {
                b'"' => Some(self.text()),
                b'-' | b'0'..=b'9' => Some(self.number()),
                byte => {
                    self.punctuation(byte);
                    self.at += 1;
                    None
                }
            };
            if let Some((at, reason)) = token.and_then(|token| fault(&self, token)) {
                return Some(TextFault { path: self.shown_path(), reason, at });
            }
        }
        None
    }

    fn punctuation(&mut self, byte: u8) {
        match byte {
            b'{' => {
                self.path.push(Segment::Object);
                self.name = true;
            }
            b'[' => {
                self.path.push(Segment::Index(0));
                self.name = false;
            }
            b'}' | b']' => {
                self.path.pop();
                self.name = false;
            }
            b':' => self.name = false,
            b',' => match self.path.last_mut() {
                Some(Segment::Index(index)) => *index += 1,
                Some(_) => self.name = true,
                None => {}
            },
            _ => {}
        }
    }

    fn text(&mut self) -> Token {
        let start = self.at + 1;
        let mut end = start;
        while let Some(&byte) = self.json.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let end = end.min(self.json.len());
        self.at = end + 1;
        if self.name
            && let Some(last) = self.path.last_mut()
        {
            *last = Segment::Name(start, end);
        }
        Token::Text { start, end }
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        let belongs = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.json[start..].iter().position(|byte| !belongs(byte));
        self.at = length.map_or(self.json.len(), |length| start + length);
        Token::Number { start, end: self.at }
    }

    fn surrogate_in(&self, start: usize, end: usize) -> Option<(usize, Reason)> {
        let text = &self.json[start..end];
        let mut at = 0;
        while at < text.len() {
            if text[at] != b'\\' {
                at += 1;
                continue;
            }
            match escape(text, at) {
                Some(0xD800..=0xDBFF) if matches!(escape(text, at + 6), Some(0xDC00..=0xDFFF)) => {
                    at += 12;
                }
                Some(0xD800..=0xDFFF) => {
                    let escape = String::from_utf8_lossy(&text[at..at + 6]).into_owned();
                    return Some((start + at, Reason::LoneSurrogate(escape)));
                }
                _ => at += 2,
            }
        }
        None
    }

    fn shown_path(&self) -> String {
        let mut shown = String::new();
        for segment in &self.path {
            match segment {
                Segment::Name(start, end) => {
                    let name = String::from_utf8_lossy(&self.json[*start..*end]);
                    let dot = if shown.is_empty() { "" } else { "." };
                    let _ = write!(shown, "{dot}{name}");
                }
                Segment::Index(index) => _ = write!(shown, "[{index}]"),
                Segment::Object => {}
            }
        }
        if shown.is_empty() { ".".to_owned() } else { shown }
    }
}

/// The code unit of an escape `\uXXXX`.
fn escape(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surrogate(json: &str) -> Option<(String, String)> {
        lone_surrogate(json.as_bytes()).map(|fault| (fault.path, fault.reason.to_string()))
    }

    fn integer(json: &str) -> Option<(String, Reason)> {
        integer_too_large(json.as_bytes()).map(|fault| (fault.path, fault.reason))
    }

    #[test]
    fn half_of_a_pair_is_found_and_named() {
        let (path, reason) =
            surrogate(r#"{"a":[{"b":1},{"c":"\"cut \ud83d"}],"d":"\ud83d\ude00"}"#).unwrap();
        assert_eq!(path, "a[1].c");
        assert!(reason.contains("`\\ud83d` is half of a surrogate pair"), "{reason}");
        assert_eq!(surrogate(r#""\ude00 x""#).unwrap().0, ".");
        assert_eq!(surrogate(r#"{"\udc00":1}"#).unwrap().0, "\\udc00");
        assert_eq!(surrogate(r#"{"a":"\\ud83d","b":"\ud83d\ude00","c":"\u00e4"}"#), None);
        assert_eq!(surrogate(r#"{"a":"\u"#), None);
    }

    #[test]
    fn an_integer_beyond_64_bits_is_found_and_named() {
        let found = integer(r#"{"a":1,"b":{"n":[5,12345678901234567890123]}}"#).unwrap();
        let named = Reason::IntegerTooLarge("12345678901234567890123".to_owned());
        assert_eq!(found, ("b.n[1]".to_owned(), named));
        assert!(integer(r#"{"n":-9223372036854775809}"#).is_some());
        assert!(integer("[18446744073709551616]").is_some());
        for fits in [
            r#"{"n":18446744073709551615,"m":-9223372036854775808}"#,
            r#"{"n":"12345678901234567890123"}"#,
            r#"{"12345678901234567890123":1}"#,
            r#"{"n":12345678901234567890123.5,"m":12345678901234567890123e1}"#,
        ] {
            assert_eq!(integer(fits), None, "{fits}");
        }
    }

    #[test]
    fn wherever_the_digits_stand_they_are_found() {
        for before in 0..60 {
            let text = format!("{}{}", " ".repeat(before), "9".repeat(20));
            assert!(integer(&text).is_some(), "{before}");
            let text = format!("{}-{}", " ".repeat(before), "9".repeat(19));
            assert!(integer(&text).is_some(), "{before}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(without_mark("\u{feff}{}".as_bytes()), b"{}");
        assert_eq!(without_mark(b"{}"), b"{}");
    }
}
