//! `srvthreds validate`.

use std::io::{self, Write};

use serde_json::{Value, json};
use thredlib::validate::{PatternSet, Report, Severity, validate, validate_text};

use super::{
    Outcome,
    args::ValidateArgs,
    diagnostics::{Diagnostic, Printer},
    files::{SourceFile, pattern_files},
    progress::Progress,
    spans::Spans,
};

pub(crate) fn run(args: &ValidateArgs, colours: bool) -> io::Result<Outcome> {
    let mut progress = Progress::new("files read");
    let (files, unreadable) = pattern_files(&args.paths, || progress.tick());
    drop(progress);
    unreadable.iter().for_each(Printer::unreadable);

    let checked = check(&files);
    let total = Total::of(&checked);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{:#}", document(&checked, &total))?;
    } else {
        print(&mut out, &checked, Printer { colours }, Severity::Note)?;
        writeln!(out, "{total}")?;
    }
    out.flush()?;

    let refused = total.errors > 0 || args.deny_warnings && total.warnings > 0;
    Ok(match (unreadable.is_empty(), refused) {
        (false, _) => Outcome::Unable,
        (true, true) => Outcome::Bad,
        (true, false) => Outcome::Good,
    })
}

/// A file and what there is to say about it.
#[derive(Debug)]
pub(crate) struct Checked<'f> {
    pub(crate) source: &'f SourceFile,
    pub(crate) report: Report,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Validates the files as one set of patterns.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Checked<'_>> {
    let mut progress = Progress::new("patterns validated");
    let documents: Vec<Option<Value>> =
        files.iter().map(|file| serde_json::from_str(&file.text).ok()).collect();
    let readable = files.iter().zip(&documents);
    let set = PatternSet::new(
        readable.filter_map(|(file, document)| Some((file.name.as_str(), document.as_ref()?))),
    );
    let mut next = 0;
    let mut checked = Vec::with_capacity(files.len());
    for (source, document) in files.iter().zip(&documents) {
        progress.tick();
        let (report, spans) = match document {
            // A pattern given alone may well spawn others that are not shown here.
            Some(document) if set.len() == 1 => (validate(document), Spans::of(&source.text)),
            Some(_) => (set.validate(next), Spans::of(&source.text)),
            None => (validate_text(&source.text), Spans::default()),
        };
        next += usize::from(document.is_some());
        let mut diagnostics: Vec<Diagnostic> = report
            .findings()
            .iter()
            .map(|finding| Diagnostic::of(finding, &source.text, &spans))
            .collect();
        diagnostics.extend(repeated_keys(&report, &spans));
        diagnostics.sort_by_key(|diagnostic| diagnostic.range.start);
        checked.push(Checked { source, report, diagnostics });
    }
    checked
}

/// Prints diagnostics for people, from a severity on.
pub(crate) fn print(
    out: &mut impl Write,
    checked: &[Checked<'_>],
    printer: Printer,
    least: Severity,
) -> io::Result<()> {
    for file in checked {
        for diagnostic in file.diagnostics.iter().filter(|it| it.severity >= least) {
            printer.diagnostic(out, file.source, diagnostic)?;
        }
    }
    Ok(())
}

/// A parsed document has lost these.
fn repeated_keys(report: &Report, spans: &Spans) -> Vec<Diagnostic> {
    let repeated = spans.repeated.iter().map(|(path, range)| Diagnostic {
        severity: Severity::Warning,
        code: "repeated-key",
        message: "the object has this key before; only the last one counts".to_owned(),
        help: "remove one of the two".to_owned(),
        range: range.clone(),
        path: path.to_string(),
        pattern: report.pattern().map(ToString::to_string),
    });
    repeated.collect()
}

fn document(checked: &[Checked], total: &Total) -> Value {
    let patterns = checked.iter().map(|file| {
        let id = file.report.pattern().map(ToString::to_string);
        json!({ "file": file.source.name, "id": id, "valid": file.report.is_valid() })
    });
    let findings = checked
        .iter()
        .flat_map(|file| file.diagnostics.iter().map(|diagnostic| diagnostic.to_json(file.source)));
    json!({
        "patterns": patterns.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
        "errors": total.errors,
        "warnings": total.warnings,
        "notes": total.notes,
    })
}

#[derive(Debug)]
struct Total {
    patterns: usize,
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl Total {
    fn of(checked: &[Checked]) -> Self {
        let of = |severity| {
            let all = checked.iter().flat_map(|file| &file.diagnostics);
            all.filter(|diagnostic| diagnostic.severity == severity).count()
        };
        let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
        Self { patterns: checked.len(), errors, warnings, notes: of(Severity::Note) }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |n: usize, what| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (errors, warnings) = (count(self.errors, "error"), count(self.warnings, "warning"));
        write!(f, "{}, {errors}, {warnings}", count(self.patterns, "pattern"))?;
        match self.notes {
            0 => Ok(()),
            notes => write!(f, ", {}", count(notes, "note")),
        }
    }
}
