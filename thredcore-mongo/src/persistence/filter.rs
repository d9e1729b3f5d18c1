//! Matchers and sort keys in MongoDB's language.

use mongodb::bson::{Bson, Document, doc};
use thredlib::task::{Clause, Collector, FieldPath, ID, Matcher, Test};

use super::values::{KEY, bson};

/// A matcher as a filter.
///
/// Each operator stands here in the code, each operand is a value below one: nothing that a task
/// holds can become an operator.
pub(super) struct Filter {
    pub(super) document: Document,
    /// Whether it finds just what the matcher means; otherwise it finds more. Regular expressions are
    /// not MongoDB's to evaluate: its dialect is another, and its time not linear.
    pub(super) exact: bool,
}

impl Filter {
    pub(super) fn of(matcher: &Matcher) -> Self {
        let mut exact = true;
        let document = conjunction(matcher, &mut exact);
        Self { document, exact }
    }
}

fn conjunction(matcher: &Matcher, exact: &mut bool) -> Document {
    let parts: Vec<_> =
        matcher.clauses.iter().flat_map(|clause| clause_of(clause, exact)).collect();
    if parts.is_empty() {
        Document::new()
    } else {
        doc! { "$and": parts }
    }
}

fn clause_of(clause: &Clause, exact: &mut bool) -> Vec<Document> {
    match clause {
        Clause::Or(matchers) => {
            let any: Vec<_> = matchers.iter().map(|matcher| conjunction(matcher, exact)).collect();
            vec![doc! { "$or": any }]
        }
        Clause::Field { path, tests } => {
            let path = path_of(path);
            tests.iter().filter_map(|test| test_of(&path, test, exact)).collect()
        }
    }
}

/// What must hold; nothing where MongoDB cannot tell.
fn test_of(path: &str, test: &Test, exact: &mut bool) -> Option<Document> {
    let with = |operator: &str, operand: Bson| doc! { path: { operator: operand } };
    let all = |operands: &[_]| Bson::Array(operands.iter().map(bson).collect());
    Some(match test {
        Test::Eq(value) => with("$eq", bson(value)),
        Test::Ne(value) => with("$ne", bson(value)),
        Test::Gt(value) => with("$gt", bson(value)),
        Test::Gte(value) => with("$gte", bson(value)),
        Test::Lt(value) => with("$lt", bson(value)),
        Test::Lte(value) => with("$lte", bson(value)),
        Test::In(values) => with("$in", all(values)),
        Test::Nin(values) => with("$nin", all(values)),
        Test::Re(_) => {
            *exact = false;
            with("$type", "string".into())
        }
        Test::Not(tests) => {
            let mut inner_exact = true;
            let inner = tests.iter().filter_map(|test| test_of(path, test, &mut inner_exact));
            let inner: Vec<_> = inner.collect();
            if !inner_exact {
                // The opposite of more would be less.
                *exact = false;
                return None;
            }
            doc! { "$nor": [{ "$and": inner }] }
        }
    })
}

fn path_of(path: &FieldPath) -> String {
    match path.as_str().split_once('.') {
        None if path.as_str() == ID => KEY.to_owned(),
        Some((ID, rest)) => format!("{KEY}.{rest}"),
        _ => path.as_str().to_owned(),
    }
}

/// The order of a collector; `None` if it has more keys than MongoDB sorts by.
pub(super) fn sort_of(collector: &Collector) -> Option<Document> {
    /// What MongoDB sorts by at most.
    const MOST: usize = 32;
    let mut sort = Document::new();
    for key in &collector.sort {
        let path = path_of(&key.field);
        if !sort.contains_key(&path) {
            sort.insert(path, if key.descending { -1 } else { 1 });
        }
    }
    if !sort.contains_key(KEY) {
        sort.insert(KEY, 1);
    }
    (sort.len() <= MOST).then_some(sort)
}
