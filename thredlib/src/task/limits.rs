//! How large tasks may be.

/// What a list of tasks may ask for; more is refused when the list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskLimits {
    /// Tasks in a list, those in transactions included. Default 1000.
    pub tasks: usize,
    /// Nesting of `$or` and `$not` in a matcher. Default 32.
    pub matcher_depth: usize,
    /// Nesting of values. Default 64.
    pub value_depth: usize,
    /// Items of one list that a task writes out: the records of a `put`, the operands of `$in`,
    /// `$nin` and `$or`, the changes of an update, the fields of a selector. Default 1000.
    pub items: usize,
    /// Fields of a `sort`. Default 32.
    pub sort_fields: usize,
    /// Segments of a field path. Default 16; the work of following a path of numbers through nested
    /// lists grows exponentially with it.
    pub path_segments: usize,
    /// `$re` in a list of tasks. Default 64.
    pub regexes: usize,
    /// Size of one compiled `$re`, in bytes. Default 1 MiB.
    pub regex_bytes: usize,
    /// Records that `get` gives when the task does not say. Default 1000.
    pub default_results: usize,
    /// The largest `limit`. Default 10,000.
    pub results: usize,
    /// Length of an `id`, a `type`, a `name` and a field path, in bytes. Default 256.
    pub name_bytes: usize,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self {
            tasks: 1000,
            matcher_depth: 32,
            value_depth: 64,
            items: 1000,
            sort_fields: 32,
            path_segments: 16,
            regexes: 64,
            regex_bytes: 1024 * 1024,
            default_results: 1000,
            results: 10_000,
            name_bytes: 256,
        }
    }
}
