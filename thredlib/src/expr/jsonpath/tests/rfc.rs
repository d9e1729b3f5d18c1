//! The examples of RFC 9535, over a document in `values`.

use serde_json::{Value, json};

use super::evaluate;

/// Each query is written for the document as the root and is asked for below `$.values`.
#[track_caller]
fn table(document: &Value, cases: &[(&str, Value)]) {
    for (query, expected) in cases {
        let placed = query.replace('$', "$.values");
        let seen = evaluate(&placed, document.clone()).unwrap();
        let seen = match seen {
            Some(Value::Array(nodes)) if !is_singular(query) => Value::Array(nodes),
            other => other.into_iter().collect(),
        };
        assert_eq!(seen, *expected, "{query}");
    }
}

/// Of the queries here, the ones without any of these.
fn is_singular(query: &str) -> bool {
    !query.contains(['*', '?', ',', ':']) && !query.contains("..")
}

#[test]
fn bookstore() {
    let store = json!({ "store": {
        "book": [
            { "category": "reference", "author": "Nigel Rees",
              "title": "Sayings of the Century", "price": 8.95 },
            { "category": "fiction", "author": "Evelyn Waugh",
              "title": "Sword of Honour", "price": 12.99 },
            { "category": "fiction", "author": "Herman Melville",
              "title": "Moby Dick", "isbn": "0-553-21311-3", "price": 8.99 },
            { "category": "fiction", "author": "J. R. R. Tolkien",
              "title": "The Lord of the Rings", "isbn": "0-395-19395-8", "price": 22.99 }
        ],
        "bicycle": { "color": "red", "price": 399 }
    }});
    let books = &store["store"]["book"];
    let authors = json!(["Nigel Rees", "Evelyn Waugh", "Herman Melville", "J. R. R. Tolkien"]);
    table(
        &store,
        &[
            ("$.store.book[*].author", authors.clone()),
            ("$..author", authors),
            ("$.store.*", json!([books, { "color": "red", "price": 399 }])),
            ("$.store..price", json!([8.95, 12.99, 8.99, 22.99, 399])),
            ("$..book[2]", json!([books[2]])),
            ("$..book[2].author", json!(["Herman Melville"])),
            ("$..book[2].publisher", json!([])),
            ("$..book[-1]", json!([books[3]])),
            ("$..book[0,1]", json!([books[0], books[1]])),
            ("$..book[:2]", json!([books[0], books[1]])),
            ("$..book[?@.isbn]", json!([books[2], books[3]])),
            ("$..book[?@.price<10]", json!([books[0], books[2]])),
        ],
    );
}

#[test]
fn names() {
    let document = json!({ "o": { "j j": { "k.k": 3 } }, "'": { "@": 2 } });
    table(
        &document,
        &[
            ("$.o['j j']", json!([{ "k.k": 3 }])),
            ("$.o['j j']['k.k']", json!([3])),
            (r#"$.o["j j"]["k.k"]"#, json!([3])),
            (r#"$["'"]["@"]"#, json!([2])),
            (r"$['\'']['\u0040']", json!([2])),
        ],
    );
}

#[test]
fn wildcards_indexes_and_slices() {
    let document = json!({ "o": { "j": 1, "k": 2 }, "a": [5, 3] });
    table(
        &document,
        &[
            ("$[*]", json!([{ "j": 1, "k": 2 }, [5, 3]])),
            ("$.o[*]", json!([1, 2])),
            ("$.o[*, *]", json!([1, 2, 1, 2])),
            ("$.a[*]", json!([5, 3])),
        ],
    );
    let letters = json!(["a", "b", "c", "d", "e", "f", "g"]);
    table(
        &letters,
        &[
            ("$[1]", json!(["b"])),
            ("$[-2]", json!(["f"])),
            ("$[7]", json!([])),
            ("$[-8]", json!([])),
            ("$[1:3]", json!(["b", "c"])),
            ("$[5:]", json!(["f", "g"])),
            ("$[1:5:2]", json!(["b", "d"])),
            ("$[5:1:-2]", json!(["f", "d"])),
            ("$[::-1]", json!(["g", "f", "e", "d", "c", "b", "a"])),
            ("$[1:3:0]", json!([])),
            ("$[ -100 : 100 : 5 ]", json!(["a", "f"])),
            ("$[-1:-9007199254740991:-9007199254740991]", json!(["g"])),
            ("$[0, 3]", json!(["a", "d"])),
            ("$[0:2, 5]", json!(["a", "b", "f"])),
            ("$[0, 0]", json!(["a", "a"])),
        ],
    );
}

#[test]
fn comparisons() {
    let document = json!({ "obj": { "x": "y" }, "arr": [2, 3] });
    for (comparison, expected) in [
        ("$.absent1 == $.absent2", true),
        ("$.absent1 <= $.absent2", true),
        ("$.absent == 'g'", false),
        ("$.absent1 != $.absent2", false),
        ("$.absent != 'g'", true),
        ("1 <= 2", true),
        ("1 > 2", false),
        ("13 == '13'", false),
        ("'a' <= 'b'", true),
        ("'a' > 'b'", false),
        ("$.obj == $.arr", false),
        ("$.obj != $.arr", true),
        ("$.obj == $.obj", true),
        ("$.obj != $.obj", false),
        ("$.arr == $.arr", true),
        ("$.arr != $.arr", false),
        ("$.obj == 17", false),
        ("$.obj != 17", true),
        ("$.obj <= $.arr", false),
        ("$.obj < $.arr", false),
        ("$.obj <= $.obj", true),
        ("$.arr <= $.arr", true),
        ("1 <= $.arr", false),
        ("1 >= $.arr", false),
        ("1 > $.arr", false),
        ("1 < $.arr", false),
        ("true <= true", true),
        ("true > true", false),
        ("null == null", true),
        ("-0 == 0", true),
        ("1e2 == 100", true),
    ] {
        let query = format!("$[?{comparison}]");
        let expected = if expected { json!([{ "x": "y" }, [2, 3]]) } else { json!([]) };
        table(&document, &[(&query, expected)]);
    }
}

#[test]
fn filters() {
    let document = json!({
        "a": [3, 5, 1, 2, 4, 6, { "b": "j" }, { "b": "k" }, { "b": {} }, { "b": "kilo" }],
        "o": { "p": 1, "q": 2, "r": 3, "s": 5, "t": { "u": 6 } },
        "e": "f"
    });
    let objects = json!([{ "b": "j" }, { "b": "k" }, { "b": {} }, { "b": "kilo" }]);
    table(
        &document,
        &[
            ("$.a[?@.b == 'kilo']", json!([{ "b": "kilo" }])),
            ("$.a[?(@.b == 'kilo')]", json!([{ "b": "kilo" }])),
            ("$.a[?@>3.5]", json!([5, 4, 6])),
            ("$.a[?@.b]", objects),
            ("$[?@.*]", json!([document["a"], document["o"]])),
            ("$[?@[?@.b]]", json!([document["a"]])),
            ("$.o[?@<3, ?@<3]", json!([1, 2, 1, 2])),
            ("$.a[?@<2 || @.b == 'k']", json!([1, { "b": "k" }])),
            ("$.a[?match(@.b, '[jk]')]", json!([{ "b": "j" }, { "b": "k" }])),
            ("$.a[?search(@.b, '[jk]')]", json!([{ "b": "j" }, { "b": "k" }, { "b": "kilo" }])),
            ("$.o[?@>1 && @<4]", json!([2, 3])),
            ("$.o[?@.u || @.x]", json!([{ "u": 6 }])),
            ("$.a[?@.b == $.x]", json!([3, 5, 1, 2, 4, 6])),
            ("$.a[?@ == @]", document["a"].clone()),
        ],
    );
}

#[test]
fn functions() {
    let document =
        json!({ "a": ["ab", "é", [1, 2, 3], { "k": 1 }, 7], "b": [{ "c": 1 }, { "c": 2 }] });
    table(
        &document,
        &[
            ("$.a[?length(@) == 2]", json!(["ab"])),
            ("$.a[?length(@) == 1]", json!(["é", { "k": 1 }])),
            ("$.a[?length(@) >= 3]", json!([[1, 2, 3]])),
            ("$.a[?count(@.*) == 3]", json!([[1, 2, 3]])),
            ("$.a[?count(@.none) == 0]", document["a"].clone()),
            ("$.b[?value(@..c) == 2]", json!([{ "c": 2 }])),
            ("$.b[?value($.b[*].c) == 1]", json!([])),
            ("$.b[?count($.b[*].c) == 2].c", json!([1, 2])),
        ],
    );
}

#[test]
fn descendants() {
    let document = json!({ "o": { "j": 1, "k": 2 }, "a": [5, 3, [{ "j": 4 }, { "k": 6 }]] });
    table(
        &document,
        &[
            ("$..j", json!([1, 4])),
            ("$..[0]", json!([5, { "j": 4 }])),
            ("$.a..[0, 1]", json!([5, 3, { "j": 4 }, { "k": 6 }])),
            ("$..o", json!([{ "j": 1, "k": 2 }])),
            ("$.o..[*, *]", json!([1, 2, 1, 2])),
            (
                "$..*",
                json!([
                    document["o"], document["a"], 1, 2, 5, 3, document["a"][2],
                    { "j": 4 }, { "k": 6 }, 4, 6
                ]),
            ),
        ],
    );
}

#[test]
fn null_is_a_value() {
    let document = json!({ "a": null, "b": [null], "c": [{}], "null": 1 });
    table(
        &document,
        &[
            ("$.a", json!([null])),
            ("$.a[0]", json!([])),
            ("$.a.d", json!([])),
            ("$.b[0]", json!([null])),
            ("$.b[*]", json!([null])),
            ("$.b[?@]", json!([null])),
            ("$.b[?@==null]", json!([null])),
            ("$.c[?@.d==null]", json!([])),
            ("$.null", json!([1])),
        ],
    );
}
