//! Lists of tasks.

use serde_json::{Map, Value};

use super::{
    Collector, Matcher, Record, RecordType, Selector, TaskError, TaskLimits, Update,
    read::{At, Reader, field_name, kind, list, object, quoted, text},
};

/// The tasks of an event, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskList(Vec<TaskGroup>);

/// Tasks that are done whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskGroup {
    /// One task by itself.
    Single(Box<Task>),
    /// A list inside the list.
    Transaction(Vec<Task>),
}

/// Something that a store is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What to do.
    pub op: Op,
    /// Its name; that of the procedure for [`Op::Run`].
    pub name: Option<String>,
    /// Hints for the store, which ignores what it does not know. They are event data and must not
    /// decide where the store connects to or what it may do.
    pub options: Map<String, Value>,
}

/// What to do, with what it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Create records, or overwrite those of the same id.
    Put(RecordType, Records),
    /// Find the first record.
    GetOne(Query),
    /// Find records.
    Get(Query),
    /// Change every record that matches.
    Update(Target, Update),
    /// Change the first record that matches, or create it.
    Upsert(Target, Update),
    /// Replace the first record that matches, or create it.
    Replace(Target, Record),
    /// Remove every record that matches.
    Delete(Target),
    /// Count the records that match.
    Count(Target),
    /// Call a procedure that the store knows by name, with an argument.
    Run(String, Value),
}

/// Which records are meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The set that they are in.
    pub record_type: RecordType,
    /// Those of the set.
    pub matcher: Matcher,
}

/// Which records are wanted, and what of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The records.
    pub target: Target,
    /// Their fields.
    pub selector: Selector,
    /// Their order, and which part of them.
    pub collector: Collector,
}

/// The records of a `put`.
#[derive(Clone, Debug, PartialEq)]
pub enum Records {
    /// An object; the result is its id.
    One(Record),
    /// A list; the result is the list of their ids.
    Many(Vec<Record>),
}

impl Records {
    /// The records.
    pub fn as_slice(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }
}

impl TaskList {
    /// Reads `data.content.tasks` of an event, within the default limits.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and what to write instead.
    pub fn from_value(tasks: &Value) -> Result<Self, TaskError> {
        Self::from_value_within(tasks, &TaskLimits::default())
    }

    /// Reads `data.content.tasks` of an event, within limits.
    ///
    /// # Errors
    /// As [`TaskList::from_value`].
    pub fn from_value_within(tasks: &Value, limits: &TaskLimits) -> Result<Self, TaskError> {
        let (reader, at) = (Reader::new(limits), At::Root("tasks"));
        let items = list(tasks, "`tasks`", &at)?;
        let nested = items.iter().map(|item| item.as_array().map_or(1, Vec::len));
        if nested.sum::<usize>() > limits.tasks || items.len() > limits.tasks {
            let most = limits.tasks;
            return Err(at.error(format!("a list may have {most} tasks; send several events")));
        }
        let groups = items.iter().enumerate().map(|(i, item)| {
            let at = at.index(i);
            match item {
                Value::Array(tasks) => tasks
                    .iter()
                    .enumerate()
                    .map(|(i, task)| Task::read(task, &reader, &at.index(i)))
                    .collect::<Result<_, _>>()
                    .map(TaskGroup::Transaction),
                task => {
                    Task::read(task, &reader, &at).map(|task| TaskGroup::Single(Box::new(task)))
                }
            }
        });
        groups.collect::<Result<_, _>>().map(Self)
    }

    /// The groups, in order.
    pub fn groups(&self) -> &[TaskGroup] {
        &self.0
    }
}

impl TaskGroup {
    /// The tasks, in order.
    pub fn tasks(&self) -> &[Task] {
        match self {
            Self::Single(task) => std::slice::from_ref(task),
            Self::Transaction(tasks) => tasks,
        }
    }
}

impl Op {
    /// The operation's name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put(..) => "put",
            Self::GetOne(..) => "getOne",
            Self::Get(..) => "get",
            Self::Update(..) => "update",
            Self::Upsert(..) => "upsert",
            Self::Replace(..) => "replace",
            Self::Delete(..) => "delete",
            Self::Count(..) => "count",
            Self::Run(..) => "run",
        }
    }

    /// Whether it may change records.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::GetOne(..) | Self::Get(..) | Self::Count(..))
    }
}

impl Task {
    fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let map = object(value, "a task", at)?;
        refuse_operators(map, at)?;
        let at_of = |name| at.key(name);
        let name = match present(map, "name") {
            Some(name) => {
                let at = at_of("name");
                let name = text(name, "a task's `name`", &at)?;
                reader.name(name, &at)?;
                Some(name.to_owned())
            }
            None => None,
        };
        let options = match present(map, "options") {
            Some(options) => {
                let at = at_of("options");
                object(options, "`options`", &at)?;
                match reader.data(options, &at)? {
                    Value::Object(options) => options,
                    _ => Map::new(),
                }
            }
            None => Map::new(),
        };
        let op_at = at.key("op");
        let op = present(map, "op").ok_or_else(|| op_at.error(format!("a task needs an {OPS}")))?;
        let op = text(op, "`op`", &op_at)?;
        let params_at = at.key("params");
        let none = Map::new();
        let params = match present(map, "params") {
            Some(params) => object(params, "`params`", &params_at)?,
            None => &none,
        };
        refuse_operators(params, &params_at)?;
        let op = match op {
            "run" => {
                let name_at = at.key("name");
                let procedure = name.clone().ok_or_else(|| {
                    name_at.error("`run` needs the `name` of the procedure to call")
                })?;
                let at = params_at.key("values");
                let argument = present(params, "values").map(|values| reader.data(values, &at));
                Op::Run(procedure, argument.transpose()?.unwrap_or(Value::Null))
            }
            _ => Params { map: params, at: &params_at, reader }.op(op, &op_at)?,
        };
        Ok(Self { op, name, options })
    }
}

const OPS: &str = "`op`: put, getOne, get, update, upsert, replace, delete, count or run";

/// A field that is there and not null.
fn present<'v>(map: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    map.get(name).filter(|value| !value.is_null())
}

/// Unknown names are ignored, but an operator must not go by unnoticed.
fn refuse_operators(map: &Map<String, Value>, at: &At) -> Result<(), TaskError> {
    map.keys().try_for_each(|name| field_name(name, &at.key(name)))
}

/// The parameters of a task on records.
struct Params<'a> {
    map: &'a Map<String, Value>,
    at: &'a At<'a>,
    reader: &'a Reader<'a>,
}

impl Params<'_> {
    fn op(&self, op: &str, op_at: &At) -> Result<Op, TaskError> {
        Ok(match op {
            "put" => Op::Put(self.record_type()?, self.records()?),
            "getOne" => Op::GetOne(self.query()?),
            "get" => Op::Get(self.query()?),
            "update" => Op::Update(self.required_target(op)?, self.update()?),
            "upsert" => self.upsert(self.required_target(op)?)?,
            "replace" => self.replace(self.required_target(op)?)?,
            "delete" => Op::Delete(self.required_target(op)?),
            "count" => Op::Count(self.target()?),
            unknown => {
                return Err(op_at.error(format!("{} is unknown; write an {OPS}", quoted(unknown))));
            }
        })
    }

    fn upsert(&self, target: Target) -> Result<Op, TaskError> {
        let update = self.update()?;
        self.check_ids(&target.matcher, update.id.as_deref())?;
        target.matcher.seed().map_err(|error| self.at.key("matcher").error(error.to_string()))?;
        Ok(Op::Upsert(target, update))
    }

    fn replace(&self, target: Target) -> Result<Op, TaskError> {
        let (values, at) = self.values()?;
        let record = Record::read(values, self.reader, &at)?;
        self.check_ids(&target.matcher, record.id.as_deref())?;
        Ok(Op::Replace(target, record))
    }

    fn query(&self) -> Result<Query, TaskError> {
        let (selector, collector) = (self.selector()?, self.collector()?);
        Ok(Query { target: self.target()?, selector, collector })
    }

    fn target(&self) -> Result<Target, TaskError> {
        let matcher = match present(self.map, "matcher") {
            Some(matcher) => Matcher::read(matcher, self.reader, &self.at.key("matcher"))?,
            None => Matcher::default(),
        };
        Ok(Target { record_type: self.record_type()?, matcher })
    }

    /// A matcher that was forgotten or misspelt must not stand for all records.
    fn required_target(&self, op: &str) -> Result<Target, TaskError> {
        match present(self.map, "matcher") {
            Some(_) => self.target(),
            None => Err(self
                .at
                .key("matcher")
                .error(format!("`{op}` needs a `matcher`; {{}} stands for all records"))),
        }
    }

    /// A record that these may create must have one id, and a text.
    fn check_ids(&self, matcher: &Matcher, id: Option<&str>) -> Result<(), TaskError> {
        let at = self.at.key("matcher");
        for (_, wanted) in matcher.equalities().filter(|(path, _)| path.as_str() == super::ID) {
            let Some(wanted) = wanted.as_str() else {
                return Err(at.error(format!("a record's `id` is a text, not {}", kind(wanted))));
            };
            self.reader.name(wanted, &at)?;
            if id.or(matcher.id()).is_some_and(|id| id != wanted) {
                return Err(
                    at.error("the matcher and the values name different ids; leave out one")
                );
            }
        }
        Ok(())
    }

    fn record_type(&self) -> Result<RecordType, TaskError> {
        let at = self.at.key("type");
        let name = present(self.map, "type")
            .ok_or_else(|| at.error("a task needs the `type` of its records"))?;
        RecordType::read(name, self.reader, &at)
    }

    fn values(&self) -> Result<(&Value, At<'_>), TaskError> {
        let at = self.at.key("values");
        let values =
            present(self.map, "values").ok_or_else(|| at.error("a task needs `values`"))?;
        Ok((values, at))
    }

    fn records(&self) -> Result<Records, TaskError> {
        let (values, at) = self.values()?;
        let Value::Array(items) = values else {
            return Record::read(values, self.reader, &at).map(Records::One);
        };
        self.reader.few(items, self.reader.limits.items, &at)?;
        let records =
            items.iter().enumerate().map(|(i, item)| Record::read(item, self.reader, &at.index(i)));
        records.collect::<Result<_, _>>().map(Records::Many)
    }

    fn update(&self) -> Result<Update, TaskError> {
        let (values, at) = self.values()?;
        Update::read(values, self.reader, &at)
    }

    fn selector(&self) -> Result<Selector, TaskError> {
        match present(self.map, "selector") {
            Some(selector) => Selector::read(selector, self.reader, &self.at.key("selector")),
            None => Ok(Selector::default()),
        }
    }

    fn collector(&self) -> Result<Collector, TaskError> {
        match present(self.map, "collector") {
            Some(collector) => Collector::read(collector, self.reader, &self.at.key("collector")),
            None => Ok(Collector::unordered(self.reader.limits)),
        }
    }
}
