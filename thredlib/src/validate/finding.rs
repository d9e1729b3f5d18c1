//! What validation finds.

use std::fmt;

use super::{JsonPath, words::escape_control};
use crate::{PatternId, PatternModel};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong, but it is good to know.
    Note,
    /// The pattern runs, though hardly as it was meant.
    Warning,
    /// The pattern cannot run.
    Error,
}

impl Severity {
    /// `note`, `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which part of the place that a [`Finding`]'s path names is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spot {
    /// The value.
    #[default]
    Value,
    /// The key that the value stands under.
    Key,
    /// A character in the value, which is a string; counted from 1, escapes resolved.
    Char(usize),
    /// A place in the text of the whole document, both counted from 1.
    Text {
        /// The line.
        line: usize,
        /// The character in the line.
        column: usize,
    },
}

/// One thing that is wrong with a pattern, or good to know about it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The kind of finding, in kebab case; the same in every release.
    pub code: &'static str,
    /// Where it is; for something missing, the object that lacks it.
    pub path: JsonPath,
    /// Where it is, more closely.
    pub spot: Spot,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
    /// The pattern, when it says its id or name.
    pub pattern: Option<PatternId>,
}

impl Finding {
    /// Points at a part of the place.
    pub(super) fn at(&mut self, spot: Spot) {
        self.spot = spot;
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, path, message, help, .. } = self;
        write!(f, "{severity}[{code}]: {message} at {path}: {help}")
    }
}

/// All that validation found in one pattern, in the order of the document.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) pattern: Option<PatternId>,
    pub(super) findings: Vec<Finding>,
    pub(super) model: Option<PatternModel>,
}

impl Report {
    /// Whether the pattern can run: there are no errors, though there may be warnings.
    pub fn is_valid(&self) -> bool {
        self.errors().next().is_none()
    }

    /// Errors, warnings and notes.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What keeps the pattern from running.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// What is hardly meant as it stands.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warning)
    }

    /// What is good to know, though nothing is wrong.
    pub fn notes(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Note)
    }

    /// The pattern, when it is [valid](Self::is_valid).
    pub fn model(&self) -> Option<&PatternModel> {
        self.model.as_ref()
    }

    /// The pattern, when it is [valid](Self::is_valid).
    pub fn into_model(self) -> Option<PatternModel> {
        self.model
    }

    /// The pattern's id, when the document says its id or name.
    pub fn pattern(&self) -> Option<&PatternId> {
        self.pattern.as_ref()
    }
}

/// One finding a line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{finding}")?;
        }
        Ok(())
    }
}

/// Findings while they are collected.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) pattern: Option<PatternId>,
    pub(super) list: Vec<Finding>,
}

impl Findings {
    pub(super) fn error(
        &mut self,
        code: &'static str,
        path: &JsonPath,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Error, code, path, message.into(), help.into())
    }

    pub(super) fn warning(
        &mut self,
        code: &'static str,
        path: &JsonPath,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Warning, code, path, message.into(), help.into())
    }

    pub(super) fn note(
        &mut self,
        code: &'static str,
        path: &JsonPath,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.push(Severity::Note, code, path, message.into(), help.into())
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        path: &JsonPath,
        mut message: String,
        mut help: String,
    ) -> &mut Finding {
        // Texts of the document may be in them, and must not command a terminal.
        [&mut message, &mut help].into_iter().for_each(escape_control);
        let finding = Finding {
            severity,
            code,
            path: path.clone(),
            spot: Spot::default(),
            message,
            help,
            pattern: self.pattern.clone(),
        };
        self.list.push(finding);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }
}
