//! Texts that separate, sort and are short.

use std::borrow::Cow;

/// A number as text that sorts as it does: 16 hexadecimal digits.
pub(super) fn sortable(number: i64) -> String {
    format!("{:016x}", (number as u64) ^ (1 << 63))
}

pub(super) fn from_sortable(text: &str) -> Option<i64> {
    let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
    Some((number ^ (1 << 63)) as i64)
}

/// How long a key is as text.
pub(super) const ENCODED: usize = 22;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A key as text of six bits a letter.
pub(super) fn encode(key: &[u8; 16]) -> String {
    let mut number = u128::from_be_bytes(*key);
    let mut text = [0; ENCODED];
    for letter in text.iter_mut().rev() {
        *letter = DIGITS[(number & 63) as usize];
        number >>= 6;
    }
    text.iter().map(|letter| char::from(*letter)).collect()
}

pub(super) fn decode(text: &[u8; ENCODED]) -> Option<[u8; 16]> {
    let mut number: u128 = 0;
    for letter in text {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        // Two bits more than there are would get lost.
        number = number.checked_mul(64)?.checked_add(u128::from(digit))?;
    }
    Some(number.to_be_bytes())
}

/// Without tabs and newlines, which separate.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(['\\', '\t', '\n']) {
        text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").into()
    } else {
        Cow::Borrowed(text)
    }
}

pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        plain.push(match one {
            '\\' => match rest.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            one => one,
        });
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_separates_and_comes_back() {
        for text in ["", "plain", "a\tb\nc\\d", "\\t", "\\\\n", "\n\n", "\u{fc}\u{0}"] {
            let escaped = escape(text);
            assert!(!escaped.contains(['\t', '\n']), "{escaped:?}");
            assert_eq!(unescape(&escaped), text);
        }
    }

    #[test]
    fn numbers_sort_as_texts() {
        let numbers = [i64::MIN, -1, 0, 1, 9, 10, 1_700_000_000_000, i64::MAX];
        let texts: Vec<_> = numbers.iter().map(|number| sortable(*number)).collect();
        assert!(texts.is_sorted());
        let back: Vec<_> = texts.iter().map(|text| from_sortable(text)).collect();
        assert_eq!(back, numbers.map(Some));
    }

    #[test]
    fn keys_come_back() {
        for key in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            let text = encode(&key);
            assert_eq!(decode(text.as_bytes().try_into().unwrap()), Some(key), "{text}");
        }
        assert_eq!(decode(&[b'_'; ENCODED]), None, "more than 128 bits");
        assert_eq!(decode(&[b'='; ENCODED]), None);
    }
}
