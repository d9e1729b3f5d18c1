//! A hundred thousand malformed and hostile inputs: none panics, none takes long.
//!
//! Valid inputs are mutated, random JSON is made, and tokens are thrown together. `HOSTILE_CASES`
//! sets another number, `THRED_SEED` another seed; a failure names the case, and the same seed
//! gives the same case again.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thred_tests::seed::seed;
use thredcore::{Engine, pattern::Pattern, port::StoredPattern, testing::scenario::Scenario};
use thredlib::{
    Event, ExprLimits, ExpressionLanguage, PatternModel,
    expr::{Scope, compile},
    validate::validate_text,
};

/// No input may take longer, in a build without optimization too.
const LONGEST: Duration = Duration::from_millis(50);

/// An expression is cut off soon enough to leave time for noticing.
const EXPRESSION_TIME: Duration = Duration::from_millis(30);

/// Small, fast and the same everywhere (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Valid inputs of one kind, to be spoilt.
struct Corpus {
    texts: Vec<String>,
    tokens: &'static [&'static str],
}

impl Corpus {
    fn spoil(&self, dice: &mut Dice) -> Vec<u8> {
        match dice.below(10) {
            0 => random_json(dice, 6).to_string().into_bytes(),
            1 => self.soup(dice).into_bytes(),
            2 => self.nest(dice),
            3 | 4 => self.mutate_tree(dice),
            _ => self.mutate_bytes(dice),
        }
    }

    fn text(&self, dice: &mut Dice) -> &str {
        &self.texts[dice.below(self.texts.len())]
    }

    fn soup(&self, dice: &mut Dice) -> String {
        let count = dice.below(40);
        let glue = dice.pick(&["", " "]);
        (0..count).map(|_| dice.pick(self.tokens)).collect::<Vec<_>>().join(glue)
    }

    /// Brackets, operators and calls, far too deep or far too many.
    fn nest(&self, dice: &mut Dice) -> Vec<u8> {
        let depth = dice.pick(&[&10, &100, &1_000, &5_000]);
        let open = dice.pick(&["[", "{\"a\":", "(", "-", "$f(", "a[", "a.", "not ", "{", "\"\\u"]);
        let close = dice.pick(&["]", "}", ")", "", "\""]);
        let middle = self.soup(dice);
        format!("{}{middle}{}", open.repeat(*depth), close.repeat(*depth)).into_bytes()
    }

    fn mutate_bytes(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.text(dice).as_bytes().to_vec();
        for _ in 0..=dice.below(6) {
            let at = dice.below(bytes.len() + 1);
            let end = (at + dice.below(20)).min(bytes.len());
            match dice.below(6) {
                0 => drop(bytes.splice(at..end, [])),
                1 => bytes.insert(at, dice.roll() as u8),
                2 => drop(bytes.splice(at..at, dice.pick(self.tokens).bytes())),
                3 => drop(bytes.splice(at..end, dice.pick(self.tokens).bytes())),
                4 => bytes.truncate(at),
                _ => {
                    let piece = bytes[at..end].repeat(1 + dice.below(30));
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }

    /// Still JSON, with something else in some places.
    fn mutate_tree(&self, dice: &mut Dice) -> Vec<u8> {
        let Ok(mut tree) = serde_json::from_str::<Value>(self.text(dice)) else {
            return self.mutate_bytes(dice);
        };
        for _ in 0..=dice.below(4) {
            self.mutate_place(&mut tree, dice);
        }
        tree.to_string().into_bytes()
    }
}

impl Corpus {
    /// Goes down to some place, and puts something else there.
    fn mutate_place(&self, place: &mut Value, dice: &mut Dice) {
        let stop = dice.below(4) == 0;
        match place {
            Value::Object(map) if !map.is_empty() && !stop => {
                let at = dice.below(map.len());
                let below = map.values_mut().nth(at);
                below.into_iter().for_each(|below| self.mutate_place(below, dice));
            }
            Value::Array(items) if !items.is_empty() && !stop => {
                let at = dice.below(items.len());
                self.mutate_place(&mut items[at], dice);
            }
            place => {
                *place = match dice.below(3) {
                    0 => dice.pick(self.tokens).into(),
                    1 => self.soup(dice).into(),
                    _ => random_json(dice, 3),
                };
            }
        }
    }
}

fn random_json(dice: &mut Dice, depth: usize) -> Value {
    const KEYS: [&str; 12] = [
        "id",
        "type",
        "name",
        "reactions",
        "condition",
        "operands",
        "xpr",
        "data",
        "steps",
        "send",
        "$xpr",
        "",
    ];
    match dice.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => (dice.below(2) == 0).into(),
        2 => json!(dice.roll() as i64),
        3 => json!(f64::from_bits(dice.roll())),
        4 => dice.pick(&KEYS).into(),
        5 => String::from_utf8_lossy(&dice.roll().to_le_bytes()).into(),
        6 => (0..dice.below(6)).map(|_| random_json(dice, depth - 1)).collect(),
        _ => {
            let field = |_| (dice.pick(&KEYS).to_owned(), random_json(dice, depth - 1));
            Value::Object((0..6).map(field).collect())
        }
    }
}

/// How many cases one of the five kinds of input has.
fn share() -> usize {
    let cases = std::env::var("HOSTILE_CASES")
        .map_or(100_000, |text| text.parse().expect("HOSTILE_CASES is a whole number"));
    cases / 5
}

/// How long this thread has had a processor, where the system says so: Linux does. What others do on
/// the machine does not count.
fn busy() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = stat.split_whitespace().next()?;
    nanos.parse().ok().map(Duration::from_nanos)
}

/// Runs all cases of a kind.
fn attack(kind: &str, corpus: &Corpus, mut run: impl FnMut(&[u8])) {
    let (seed, cases) = (seed(), share());
    let mut slowest = (Duration::ZERO, 0);
    for case in 0..cases {
        let mut dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(case as u64) << 8);
        let input = corpus.spoil(&mut dice);
        let shown = || String::from_utf8_lossy(&input).chars().take(2_000).collect::<String>();
        let mut took = Duration::MAX;
        // Again when it was slow: where only the clock tells, others may have kept the machine busy.
        for _ in 0..5 {
            let (start, busy_before) = (Instant::now(), busy());
            let ended = catch_unwind(AssertUnwindSafe(|| run(&input)));
            let (elapsed, busy) = (start.elapsed(), busy());
            let worked = busy.zip(busy_before).map(|(after, before)| after - before);
            took = took.min(worked.map_or(elapsed, |worked| worked.min(elapsed)));
            assert!(ended.is_ok(), "{kind}, seed {seed}, case {case} panicked: {}", shown());
            if took < LONGEST {
                break;
            }
        }
        assert!(took < LONGEST, "{kind}, seed {seed}, case {case} took {took:?}: {}", shown());
        slowest = slowest.max((took, case));
    }
    let (took, case) = slowest;
    println!("{kind}: {cases} cases, seed {seed}; the slowest, case {case}, took {took:?}");
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// All files below a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<String> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        if path.is_dir() {
            texts.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts
}

fn patterns() -> Corpus {
    Corpus {
        texts: files(&folder("examples/patterns"), ".json"),
        tokens: &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "-1",
            "1e999",
            "18446744073709551616",
            "\"",
            "\"type\"",
            "\"and\"",
            "\"or\"",
            "\"operands\"",
            "\"$xpr($x)\"",
            "$terminate",
            "$next",
            "/(a+)+$/",
            "/[/",
            "@ops",
            "$xpr(",
            "\\ud800",
            "reactions",
            "condition",
            "spawn",
            "\u{0}",
        ],
    }
}

const WORDS: &[&str] = &[
    "$event",
    "$data",
    "$values",
    "$local('a')",
    "$setLocal('a', 1)",
    "$valueNamed('n')",
    "$sum(",
    "$map(",
    "function($x){",
    "}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "~>",
    "|",
    "^",
    "**",
    "*",
    "..",
    ".",
    "%",
    "&",
    "?",
    ":",
    ":=",
    "$x",
    "and",
    "or",
    "in",
    "'a'",
    "\"",
    "/a+/",
    "/(a|aa)+$/",
    "1e308",
    "0",
    "-1",
    "[1..9999999]",
    "$string(",
    "$replace(",
    "$pad(",
    "$eval(",
    "@",
    "#",
    "`",
    "\u{1F600}",
    ",",
    ";",
    "$$",
    "$",
    "$reduce(",
    "$match(",
    "$split(",
];

fn event() -> Arc<Event> {
    let values =
        json!({ "n": 3, "a": [1, 2, { "n": "x" }], "text": "aaaaaaaaaaaaaaaaaaaaaaaaaaab" });
    Arc::new(Event::builder("org.example.a", "ann").id("e").values(values).build())
}

fn try_expression(language: ExpressionLanguage, input: &[u8]) {
    let mut limits = ExprLimits::default();
    limits.time = EXPRESSION_TIME;
    if let Ok(expression) = compile(language, &String::from_utf8_lossy(input), &limits) {
        let _ = expression.evaluate(&mut Scope::new(event(), 0, 0));
    }
}

#[test]
fn events() {
    let values = event();
    let corpus = Corpus {
        texts: [serde_json::to_string(&*values).unwrap()]
            .into_iter()
            .chain(
                fs::read_to_string(folder("examples/uav.events.jsonl"))
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            )
            .collect(),
        tokens: &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "true",
            "1e999",
            "-0",
            "\"",
            "\\u0000",
            "\\ud800",
            "\"id\":1",
            "\"thredId\":\"SYSTEM\"",
            "\"source\":{\"id\":\"SYSTEM\"}",
            "\"time\":",
            "\u{FEFF}",
            "\"id\":\"x\",\"id\":\"y\"",
            "99999999999999999999",
            "\"data\":[]",
            "\"values\":7",
        ],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let engine = runtime.block_on(async { Engine::builder().build().await.unwrap() });
    attack("events", &corpus, |input| {
        if let Ok(event) = engine.read_event(input) {
            let again = serde_json::to_vec(&event).unwrap();
            assert_eq!(engine.read_event(&again).unwrap(), event);
        }
    });
}

#[test]
fn pattern_files() {
    attack("patterns", &patterns(), |input| {
        let text = String::from_utf8_lossy(input);
        let report = validate_text(&text);
        let _ = report;
        if let Ok(model) = serde_json::from_str::<PatternModel>(&text) {
            let _ = Pattern::compile(&StoredPattern::new(model), &ExprLimits::default());
        }
    });
}

#[test]
fn jsonata_expressions() {
    let texts = [
        "$event.type = 'a' and $values.n > 2",
        "$sum($values.a[n = 'x'].n) + $count($values.**)",
        "$map([1..10], function($v, $i) { $v * $i }) ~> $reduce(function($a, $b) { $a + $b })",
        "$setLocal('n', $local('n') ? $local('n') + 1 : 1)",
        "{ 'a': $values.text, 'b': [$values.a^(>n)] }",
        "$replace($values.text, /a+b/, 'c') & $uppercase($substringBefore('a-b', '-'))",
        "($f := function($n) { $n < 2 ? 1 : $n * $f($n - 1) }; $f(5))",
        "$values ~> |a|{ 'n': 1 }|",
    ];
    let corpus = Corpus { texts: texts.map(str::to_owned).to_vec(), tokens: WORDS };
    attack("jsonata", &corpus, |input| try_expression(ExpressionLanguage::Jsonata, input));
}

#[test]
fn jsonpath_expressions() {
    let texts = [
        "$.event.type",
        "$.values.a[?@.n == 'x' && length(@.n) > 0]",
        "$..a[1:2:-1]['n', \"m\"]",
        "$.values[?match(@.text, 'a+b') || search(@.text, '(a|aa)+$')]",
        "$[?count($..*) > 3]",
    ];
    let tokens = &[
        "$",
        "@",
        ".",
        "..",
        "[",
        "]",
        "*",
        "?",
        "(",
        ")",
        "'a'",
        "\"a\"",
        ":",
        ",",
        "-1",
        "&&",
        "||",
        "!",
        "==",
        "<=",
        "match(",
        "search(",
        "length(",
        "count(",
        "value(",
        "9007199254740993",
        "'(a+)+$'",
        "\\u",
        "true",
        "null",
        "\u{1F600}",
        " ",
    ];
    let corpus = Corpus { texts: texts.map(str::to_owned).to_vec(), tokens };
    attack("jsonpath", &corpus, |input| try_expression(ExpressionLanguage::Jsonpath, input));
}

#[test]
fn scenario_files() {
    let corpus = Corpus { texts: files(&folder("examples/scenarios"), ".json"), ..patterns() };
    let path = folder("examples/scenarios/x.scenario.json");
    attack("scenarios", &corpus, |input| {
        let _ = Scenario::parse(&String::from_utf8_lossy(input), &path);
    });
}
