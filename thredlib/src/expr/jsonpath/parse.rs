//! The parser: RFC 9535's grammar by recursive descent, with its rules of well-typedness (section
//! 2.4.3) checked on the way, so that each error has its place. It never looks back more than a
//! token, so the time is linear in the text.

mod literal;

use serde_json::Value;

use super::{
    super::CompileError,
    query::{Logical, Operand, Operator, Origin, Pattern, Query, Segment, Selector, Step},
    regexp::Regexp,
};

/// The longest text that is taken for a query, in bytes.
const MAX_SOURCE: usize = 64 * 1024;

/// How deep filters, parentheses and function calls may nest in each other.
const MAX_NESTING: usize = 64;

/// Parses a query that starts at the root.
pub(super) fn parse(source: &str) -> Result<Query, CompileError> {
    if source.len() > MAX_SOURCE {
        let message = format!("the query is longer than {MAX_SOURCE} bytes; shorten it");
        return Err(CompileError::at(source, 1, message));
    }
    let mut parser = Parser { source, at: 0, nesting: 0 };
    parser.whole_query().map_err(|refusal| {
        let column = source[..refusal.at].chars().count() + 1;
        CompileError::at(source, column, refusal.message)
    })
}

/// What is wrong at a byte of the source.
struct Refusal {
    at: usize,
    message: String,
}

type Parsed<T> = Result<T, Refusal>;

struct Parser<'s> {
    source: &'s str,
    /// The next byte, always at the start of a character.
    at: usize,
    nesting: usize,
}

impl<'s> Parser<'s> {
    fn whole_query(&mut self) -> Parsed<Query> {
        if !self.eat("$") {
            return self.refuse("a query starts with `$`");
        }
        let query = self.query_after(Origin::Root)?;
        match self.rest() {
            "" => Ok(query),
            rest if rest.trim_start().is_empty() => self.refuse("remove the space after the query"),
            _ => self.refuse("expected `.`, `[` or the end of the query"),
        }
    }

    /// The segments after `$` or `@`.
    fn query_after(&mut self, origin: Origin) -> Parsed<Query> {
        let mut segments = Vec::new();
        loop {
            let before = self.at;
            self.skip_space();
            if self.eat("..") {
                let selectors = match self.peek() {
                    Some('[') => self.brackets()?,
                    _ => vec![self.shorthand()?],
                };
                segments.push(Segment::Descendants(selectors.into()));
            } else if self.eat(".") {
                let selector = self.shorthand()?;
                segments.push(child(vec![selector]));
            } else if self.peek() == Some('[') {
                let selectors = self.brackets()?;
                segments.push(child(selectors));
            } else {
                self.at = before;
                return Ok(Query { origin, segments: segments.into() });
            }
        }
    }

    /// A name or `*` after a dot.
    fn shorthand(&mut self) -> Parsed<Selector> {
        if self.eat("*") {
            return Ok(Selector::Wildcard);
        }
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let rest = self.rest();
        if !rest.starts_with(first) {
            return self.refuse("expected a name or `*` here; write other names as `['…']`");
        }
        let end = rest.find(|c| !first(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        Ok(Selector::Step(Step::Name(rest[..end].into())))
    }

    fn brackets(&mut self) -> Parsed<Vec<Selector>> {
        self.at += 1;
        let mut selectors = Vec::new();
        loop {
            self.skip_space();
            selectors.push(self.selector()?);
            self.skip_space();
            if self.eat("]") {
                return Ok(selectors);
            }
            if !self.eat(",") {
                return self.refuse("expected `,` or `]`");
            }
        }
    }

    fn selector(&mut self) -> Parsed<Selector> {
        match self.peek() {
            Some('\'' | '"') => Ok(Selector::Step(Step::Name(self.string()?.into()))),
            Some('*') => {
                self.at += 1;
                Ok(Selector::Wildcard)
            }
            Some('?') => {
                self.at += 1;
                self.skip_space();
                self.nested(Self::logical).map(Selector::Filter)
            }
            Some(':' | '-' | '0'..='9') => self.index_or_slice(),
            _ => self.refuse("expected a quoted name, an index, a slice, `*` or a `?` filter"),
        }
    }

    fn index_or_slice(&mut self) -> Parsed<Selector> {
        let start = self.optional_integer()?;
        let after_start = self.at;
        self.skip_space();
        if !self.eat(":") {
            self.at = after_start;
            return match start {
                Some(index) => Ok(Selector::Step(Step::Index(index))),
                None => self.refuse("expected an index"),
            };
        }
        self.skip_space();
        let end = self.optional_integer()?;
        let after_end = self.at;
        self.skip_space();
        let step = if self.eat(":") {
            self.skip_space();
            self.optional_integer()?
        } else {
            self.at = after_end;
            None
        };
        Ok(Selector::Slice { start, end, step: step.unwrap_or(1) })
    }

    fn logical(&mut self) -> Parsed<Logical> {
        let mut parts = vec![self.conjunction()?];
        while self.eat_spaced("||") {
            parts.push(self.conjunction()?);
        }
        Ok(single_or(parts, Logical::Or))
    }

    fn conjunction(&mut self) -> Parsed<Logical> {
        let mut parts = vec![self.basic()?];
        while self.eat_spaced("&&") {
            parts.push(self.basic()?);
        }
        Ok(single_or(parts, Logical::And))
    }

    fn basic(&mut self) -> Parsed<Logical> {
        if self.peek() == Some('!') {
            self.at += 1;
            self.skip_space();
            let inner = match self.peek() {
                Some('(') => self.parenthesized()?,
                _ => {
                    let (at, test) = self.test_or_comparison()?;
                    if matches!(test, Logical::Compare(..)) {
                        return refuse_at(at, "put the comparison after `!` in parentheses");
                    }
                    test
                }
            };
            return Ok(Logical::Not(Box::new(inner)));
        }
        match self.peek() {
            Some('(') => self.parenthesized(),
            _ => Ok(self.test_or_comparison()?.1),
        }
    }

    fn parenthesized(&mut self) -> Parsed<Logical> {
        self.at += 1;
        self.skip_space();
        let inner = self.nested(Self::logical)?;
        self.skip_space();
        self.expect(")")?;
        Ok(inner)
    }

    /// Also gives where it starts.
    fn test_or_comparison(&mut self) -> Parsed<(usize, Logical)> {
        let start = self.at;
        let term = self.term()?;
        let after_term = self.at;
        self.skip_space();
        let Some(operator) = self.operator() else {
            self.at = after_term;
            return term.into_test(start).map(|test| (start, test));
        };
        let left = term.into_operand(start)?;
        self.skip_space();
        let right_start = self.at;
        let right = self.term()?.into_operand(right_start)?;
        Ok((start, Logical::Compare(left, operator, right)))
    }

    fn operator(&mut self) -> Option<Operator> {
        const OPERATORS: [(&str, Operator); 6] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        OPERATORS.into_iter().find_map(|(text, operator)| self.eat(text).then_some(operator))
    }

    fn term(&mut self) -> Parsed<Term> {
        match self.peek() {
            Some('$') => {
                self.at += 1;
                self.query_after(Origin::Root).map(Term::Query)
            }
            Some('@') => {
                self.at += 1;
                self.query_after(Origin::Current).map(Term::Query)
            }
            Some('\'' | '"') => {
                self.string().map(|text| Term::Value(Operand::Literal(Value::String(text))))
            }
            Some('-' | '0'..='9') => {
                self.number().map(|number| Term::Value(Operand::Literal(Value::Number(number))))
            }
            Some('a'..='z') => self.word(),
            Some('=') => self.refuse("expected a value before the operator"),
            _ => self.refuse("expected a query, a literal, a function or `(`"),
        }
    }

    /// `true`, `false`, `null` or a function call.
    fn word(&mut self) -> Parsed<Term> {
        let start = self.at;
        let rest = self.rest();
        let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let name = &rest[..rest.find(|c| !in_name(c)).unwrap_or(rest.len())];
        self.at += name.len();
        if self.peek() == Some('(') {
            self.at += 1;
            self.skip_space();
            let term = self.nested(|parser| parser.arguments(start, name))?;
            self.skip_space();
            self.expect(")")?;
            return Ok(term);
        }
        let literal = match name {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => {
                return refuse_at(start, "expected a query, a literal or a function; quote a text");
            }
        };
        Ok(Term::Value(Operand::Literal(literal)))
    }

    fn arguments(&mut self, start: usize, name: &str) -> Parsed<Term> {
        Ok(match name {
            "length" => Term::Value(Operand::Length(Box::new(self.value_argument()?))),
            "count" => Term::Value(Operand::Count(self.nodes_argument()?)),
            "value" => Term::Value(Operand::Value(self.nodes_argument()?)),
            "match" | "search" => {
                let whole = name == "match";
                let text = self.value_argument()?;
                self.skip_space();
                self.expect(",")?;
                self.skip_space();
                let at = self.at;
                let pattern = match self.value_argument()? {
                    Operand::Literal(Value::String(source)) => {
                        Regexp::compile(&source, whole).map(Pattern::Fixed).map_err(|reason| {
                            let message = format!("the regular expression is not valid: {reason}");
                            Refusal { at, message }
                        })?
                    }
                    operand => Pattern::Computed(operand),
                };
                Term::Test(Logical::Matches { text, pattern, whole })
            }
            _ => {
                return refuse_at(
                    start,
                    "no such function; there are length, count, value, match and search",
                );
            }
        })
    }

    fn value_argument(&mut self) -> Parsed<Operand> {
        let start = self.at;
        self.term()?.into_operand(start)
    }

    fn nodes_argument(&mut self) -> Parsed<Query> {
        let start = self.at;
        match self.term()? {
            Term::Query(query) => Ok(query),
            _ => refuse_at(start, "expected a query as the argument"),
        }
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting == MAX_NESTING {
            return self.refuse(format!("nested deeper than {MAX_NESTING} levels"));
        }
        self.nesting += 1;
        let outcome = inner(self);
        self.nesting -= 1;
        outcome
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// As `eat`, with space around it; takes nothing when the token is not there.
    fn eat_spaced(&mut self, token: &str) -> bool {
        let before = self.at;
        self.skip_space();
        if self.eat(token) {
            self.skip_space();
            return true;
        }
        self.at = before;
        false
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { self.refuse(format!("expected `{token}`")) }
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn refuse<T>(&self, message: impl Into<String>) -> Parsed<T> {
        refuse_at(self.at, message)
    }
}

/// What an operator may stand beside, or what is a test by itself.
enum Term {
    Query(Query),
    Value(Operand),
    Test(Logical),
}

impl Term {
    fn into_operand(self, at: usize) -> Parsed<Operand> {
        match self {
            Self::Value(operand) => Ok(operand),
            Self::Query(query) if query.is_singular() => Ok(Operand::Query(query)),
            Self::Query(_) => refuse_at(
                at,
                "a query whose value is used selects one node, by names and indexes only; \
                 use value() or count() on others",
            ),
            Self::Test(_) => refuse_at(at, "match() and search() are tests and have no value"),
        }
    }

    fn into_test(self, at: usize) -> Parsed<Logical> {
        match self {
            Self::Test(test) => Ok(test),
            Self::Query(query) => Ok(Logical::Exists(query)),
            Self::Value(Operand::Literal(_)) => refuse_at(at, "compare the literal to something"),
            Self::Value(_) => refuse_at(at, "compare the result of the function to something"),
        }
    }
}

fn child(mut selectors: Vec<Selector>) -> Segment {
    match selectors.pop() {
        Some(Selector::Step(step)) if selectors.is_empty() => Segment::Step(step),
        last => {
            selectors.extend(last);
            Segment::Children(selectors.into())
        }
    }
}

fn single_or(mut parts: Vec<Logical>, several: fn(Vec<Logical>) -> Logical) -> Logical {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            several(parts)
        }
    }
}

fn refuse_at<T>(at: usize, message: impl Into<String>) -> Parsed<T> {
    Err(Refusal { at, message: message.into() })
}
