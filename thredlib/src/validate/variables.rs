//! The `$names` in the text of a JSONata expression.

/// A `$name` that is used.
#[derive(Debug, PartialEq)]
pub(super) struct Variable<'s> {
    /// Without the `$`.
    pub(super) name: &'s str,
    /// In characters from 1, of the `$`.
    pub(super) column: usize,
    /// Its first argument, when it is called with one that is a plain text in quotes.
    pub(super) argument: Option<&'s str>,
    /// Whether the expression gives it a value itself.
    pub(super) bound: bool,
}

/// Reads the variables of an expression. Texts, comments, quoted names and regexes are skipped;
/// an expression that does not compile gives some of its variables.
pub(super) fn variables(source: &str) -> Vec<Variable<'_>> {
    let mut scan = Scan { source, at: 0, column: 1, last: None };
    let (mut found, mut bound) = (Vec::new(), Vec::new());
    // Inside the parentheses of `function($a, $b)` names are bound, not used.
    let mut parameters = false;
    let mut word = "";
    while let Some(c) = scan.peek() {
        match c {
            '"' | '\'' | '`' => _ = scan.quoted(c),
            '/' if scan.rest().starts_with("/*") => scan.comment(),
            '/' if scan.regex_may_start() => _ = scan.quoted('/'),
            '$' => {
                let focus = matches!(scan.last, Some('@' | '#'));
                let column = scan.column;
                scan.bump();
                let name = scan.word();
                if parameters || focus || scan.upcoming(":=") {
                    bound.push(name);
                }
                // `$` and `$$` are the context, not names.
                if !name.is_empty() {
                    let argument = scan.text_argument();
                    found.push(Variable { name, column, argument, bound: false });
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                word = scan.word();
                continue;
            }
            '(' if matches!(word, "function" | "λ") => {
                parameters = true;
                scan.bump();
            }
            ')' => {
                parameters = false;
                scan.bump();
            }
            c if c.is_whitespace() => {
                scan.bump();
                continue;
            }
            _ => scan.bump(),
        }
        word = "";
    }
    for variable in &mut found {
        variable.bound = bound.contains(&variable.name);
    }
    found
}

struct Scan<'s> {
    source: &'s str,
    at: usize,
    column: usize,
    /// The last character that is no space.
    last: Option<char>,
}

impl<'s> Scan<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) {
        if let Some(c) = self.peek() {
            self.at += c.len_utf8();
            self.column += 1;
            if !c.is_whitespace() {
                self.last = Some(c);
            }
        }
    }

    fn word(&mut self) -> &'s str {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.bump();
        }
        &self.source[start..self.at]
    }

    /// Skips to behind the closing sign; what is between.
    fn quoted(&mut self, sign: char) -> &'s str {
        self.bump();
        let start = self.at;
        while let Some(c) = self.peek() {
            if c == sign {
                let text = &self.source[start..self.at];
                self.bump();
                return text;
            }
            if c == '\\' && sign != '`' {
                self.bump();
            }
            self.bump();
        }
        &self.source[start..self.at]
    }

    fn comment(&mut self) {
        let last = self.last;
        let end = self.rest().find("*/").map_or(self.source.len(), |end| self.at + end + 2);
        while self.at < end {
            self.bump();
        }
        self.last = last;
    }

    /// After a value `/` divides; anywhere else a regex starts.
    fn regex_may_start(&self) -> bool {
        !self.last.is_some_and(|c| c.is_alphanumeric() || "_$)]}'\"`".contains(c))
    }

    fn upcoming(&self, sign: &str) -> bool {
        self.rest().trim_start().starts_with(sign)
    }

    /// `x` of an upcoming `('x')` or `('x', …`, without moving on.
    fn text_argument(&self) -> Option<&'s str> {
        let rest = self.rest().trim_start().strip_prefix('(')?.trim_start();
        let sign = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (text, rest) = rest[1..].split_once(sign)?;
        let ends = rest.trim_start().starts_with([',', ')']);
        (ends && !text.contains('\\')).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<&str> {
        variables(source).into_iter().filter(|v| !v.bound).map(|v| v.name).collect()
    }

    #[test]
    fn used_names() {
        assert_eq!(names("$event.type = '$no' and $local( 'a' ) /* $no */"), ["event", "local"]);
        assert_eq!(names("$match(type, /it's $no/) & $values.`$no`"), ["match", "values"]);
        assert_eq!(names("a / $b / $c"), ["b", "c"]);
        assert_eq!(names("$$.event.$.x"), [""; 0]);
    }

    #[test]
    fn names_bound_in_the_expression() {
        assert_eq!(names("($x := 1; $f := function ($y, $z) { $y + $x + $z }; $f(1, $w))"), ["w"]);
        assert_eq!(names("items@$i#$n.[$i, $n, $m]"), ["m"]);
    }

    #[test]
    fn arguments_and_columns() {
        let found = variables("ä + $local(\"a b\") + $local('a' & 'b')");
        assert_eq!((found[0].argument, found[0].column), (Some("a b"), 5));
        assert_eq!(found[1].argument, None);
    }

    #[test]
    fn broken_texts_end() {
        for source in ["'", "/", "$", "`", "\"\\", "/*", "$local(", "$local('", "function($"] {
            variables(source);
        }
    }
}
