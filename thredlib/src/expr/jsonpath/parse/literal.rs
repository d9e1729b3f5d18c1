//! Texts and numbers.

use serde_json::Number;

use super::{Parsed, Parser, refuse_at};

/// The largest integer that every JSON implementation keeps exact (RFC 7493).
const MAX_INTEGER: i64 = (1 << 53) - 1;

impl Parser<'_> {
    /// A quoted text.
    pub(super) fn string(&mut self) -> Parsed<String> {
        let start = self.at;
        let mut text = String::new();
        let Some(quote) = self.next() else { return self.refuse("expected a quoted text") };
        loop {
            let at = self.at;
            match self.next() {
                None => return refuse_at(start, "this text has no closing quote"),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(self.escaped(quote)?),
                Some(c) if c < ' ' => return refuse_at(at, "escape this control character"),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self, quote: char) -> Parsed<char> {
        let at = self.at - 1;
        Ok(match self.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(c @ ('/' | '\\')) => c,
            Some(c) if c == quote => c,
            Some('u') => match self.hex4() {
                Some(high @ 0xd800..=0xdbff) if self.eat("\\u") => match self.hex4() {
                    Some(low @ 0xdc00..=0xdfff) => {
                        let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    _ => return refuse_at(at, "this is half of a surrogate pair"),
                },
                Some(code) => match char::from_u32(code) {
                    Some(c) => c,
                    None => return refuse_at(at, "this is half of a surrogate pair"),
                },
                None => return refuse_at(at, "expected four hexadecimal digits after `\\u`"),
            },
            _ => return refuse_at(at, "there is no such escape; write a backslash as `\\\\`"),
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// The number of an index or a slice, if one is here.
    pub(super) fn optional_integer(&mut self) -> Parsed<Option<i64>> {
        match self.peek() {
            Some('-' | '0'..='9') => {}
            _ => return Ok(None),
        }
        let start = self.at;
        self.eat("-");
        let digits = self.digits();
        let text = &self.source[start..self.at];
        match text.parse::<i64>() {
            _ if digits == 0 => self.refuse("expected a digit"),
            _ if text == "-0" || has_leading_zero(text) => {
                refuse_at(start, "write the number without the zero in front")
            }
            Ok(n) if n.abs() <= MAX_INTEGER => Ok(Some(n)),
            _ => refuse_at(start, "this number is too large"),
        }
    }

    /// The number of a comparison.
    pub(super) fn number(&mut self) -> Parsed<Number> {
        let start = self.at;
        self.eat("-");
        if self.digits() == 0 {
            return self.refuse("expected a digit");
        }
        if has_leading_zero(&self.source[start..self.at]) {
            return refuse_at(start, "write the number without the zero in front");
        }
        if self.eat(".") && self.digits() == 0 {
            return self.refuse("expected a digit after the point");
        }
        if self.eat("e") || self.eat("E") {
            let _ = self.eat("-") || self.eat("+");
            if self.digits() == 0 {
                return self.refuse("expected a digit in the exponent");
            }
        }
        let text = &self.source[start..self.at];
        if let Ok(n) = text.parse::<i64>() {
            return Ok(n.into());
        }
        if let Ok(n) = text.parse::<u64>() {
            return Ok(n.into());
        }
        match text.parse().ok().and_then(Number::from_f64) {
            Some(number) => Ok(number),
            None => refuse_at(start, "this number is too large"),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = self.rest();
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        count
    }
}

fn has_leading_zero(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    digits.len() > 1 && digits.starts_with('0')
}
