//! Regular expressions of `match()` and `search()`: I-Regexp (RFC 9485) by the regex crate, which
//! takes linear time.

use regex::{Regex, RegexBuilder};

/// Sizes of a compiled program to try, in bytes. Those of an expression's own text may be larger
/// than those from the data, which are compiled while the clock runs.
const SIZES: &[usize] = &[1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22];
const SIZES_FROM_DATA: &[usize] = &[1 << 14, 1 << 16, 1 << 18];

/// The product of program size and text length that is still matched in time, at worst.
const WORK: usize = 1 << 32;

const MAX_SOURCE: usize = 4096;
const MAX_NESTING: u32 = 50;

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(super) struct Regexp {
    regex: Regex,
    longest_text: usize,
}

impl Regexp {
    /// With `whole`, one that matches all of a text or nothing. The error says what is wrong.
    pub(super) fn compile(source: &str, whole: bool) -> Result<Self, String> {
        Self::compile_within(source, whole, SIZES)
    }

    /// As `compile`, for a text that comes from the data.
    pub(super) fn compile_from_data(source: &str, whole: bool) -> Option<Self> {
        Self::compile_within(source, whole, SIZES_FROM_DATA).ok()
    }

    fn compile_within(source: &str, whole: bool, sizes: &[usize]) -> Result<Self, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("it is longer than {MAX_SOURCE} bytes"));
        }
        let translated = translate(source, whole);
        for &size in sizes {
            let built = RegexBuilder::new(&translated)
                .size_limit(size)
                .dfa_size_limit(size * 4)
                .nest_limit(MAX_NESTING)
                .build();
            match built {
                Ok(regex) => return Ok(Self { regex, longest_text: WORK / size }),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(error) => return Err(reason(&error)),
            }
        }
        Err("it is too large when compiled; repeat less".to_owned())
    }

    /// `None` when the text is too long for it.
    pub(super) fn is_match(&self, text: &str) -> Option<bool> {
        (text.len() <= self.longest_text).then(|| self.regex.is_match(text))
    }
}

/// In an I-Regexp a dot is neither `\n` nor `\r`, and a class has no operators.
fn translate(source: &str, whole: bool) -> String {
    let mut translated = String::with_capacity(source.len() + 16);
    let (before, after) = if whole { (r"\A(?:", r")\z") } else { ("", "") };
    translated.push_str(before);
    let mut in_class = false;
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                translated.push(c);
                translated.extend(chars.next());
            }
            '.' if !in_class => translated.push_str(r"[^\n\r]"),
            '[' if !in_class => {
                in_class = true;
                translated.push(c);
            }
            '[' | '&' | '~' if in_class => translated.extend(['\\', c]),
            ']' => {
                in_class = false;
                translated.push(c);
            }
            c => translated.push(c),
        }
    }
    translated.push_str(after);
    translated
}

/// The crate's message without its drawing of the pattern.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
