//! Where in its text an expression is wrong; the parser does not say.

use jsonata_core::parser::{self, ParserError};

use super::super::CompileError;

/// The parser reads from left to right with one token of lookahead. So the shortest prefix that
/// gives the same message ends in the token at fault.
pub(super) fn locate(source: &str, error: &ParserError) -> CompileError {
    let message = error.to_string();
    let ends: Vec<usize> = source.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    let fails_alike = |chars: usize| {
        let prefix = chars.checked_sub(1).map_or("", |last| &source[..ends[last]]);
        matches!(parser::parse(prefix), Err(e) if e.to_string() == message)
    };
    let column = if is_unclosed(error) {
        opening(source, &ends, fails_alike)
    } else if is_end(error) {
        ends.len() + 1
    } else {
        token_start(source, shortest(ends.len(), fails_alike))
    };
    CompileError::at(source, column, plain(&message))
}

fn is_unclosed(error: &ParserError) -> bool {
    use ParserError::{UnclosedBacktick, UnclosedComment, UnclosedString};
    matches!(error, UnclosedString | UnclosedComment | UnclosedBacktick)
}

fn is_end(error: &ParserError) -> bool {
    match error {
        ParserError::UnexpectedEnd => true,
        ParserError::Expected { found, .. } => found == "Eof",
        ParserError::UnexpectedToken(token) => token == "Eof",
        _ => false,
    }
}

/// The number of characters of the shortest prefix that fails alike, by bisection.
fn shortest(all: usize, fails_alike: impl Fn(usize) -> bool) -> usize {
    let (mut passes, mut fails) = (0, all);
    while fails - passes > 1 {
        let middle = passes + (fails - passes) / 2;
        if fails_alike(middle) {
            fails = middle;
        } else {
            passes = middle;
        }
    }
    fails
}

/// The column of the quote or comment sign that is not closed: the last one with a prefix before
/// it that is closed.
fn opening(source: &str, ends: &[usize], fails_alike: impl Fn(usize) -> bool) -> usize {
    const TRIED: usize = 64;
    let signs = source.chars().enumerate().filter(|(_, c)| matches!(c, '"' | '\'' | '`' | '/'));
    let columns: Vec<usize> = signs.map(|(at, _)| at + 1).collect();
    let found = columns.iter().rev().take(TRIED).find(|&&column| !fails_alike(column - 1));
    found.copied().unwrap_or(ends.len())
}

/// The column of the start of the word that ends a prefix.
fn token_start(source: &str, prefix: usize) -> usize {
    let chars: Vec<char> = source.chars().take(prefix).collect();
    let in_word = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let word = chars.iter().rev().take_while(|c| in_word(c)).count();
    (prefix + 1 - word.max(1)).max(1)
}

/// The message without the code at its front, in lower case.
fn plain(message: &str) -> String {
    let text = match jsonata_core::evaluator::error_code_prefix(message) {
        Some(code) => message[code.len() + 1..].trim_start(),
        None => message,
    };
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text.to_owned(),
    }
}
