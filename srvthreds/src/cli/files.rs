//! Finding and reading the files that the arguments name.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use thredlib::json::text::lone_surrogate;

/// A file with its text.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The path as it was given or found.
    pub(crate) name: String,
    pub(crate) text: String,
    /// Where each line starts, in bytes.
    lines: Vec<usize>,
}

impl SourceFile {
    pub(crate) fn new(name: String, text: String) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(newlines).collect();
        Self { name, text, lines }
    }

    /// The place of a byte of the text, for people.
    pub(crate) fn position(&self, at: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= at);
        Position { line, column: 1 + self.text[self.lines[line - 1]..at].chars().count() }
    }
}

/// A place in a text, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    /// In characters.
    pub(crate) column: usize,
}

/// A file or directory that could not be read, or where there was nothing to read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// The pattern files that the paths stand for, in the order given, those of a directory sorted.
/// No file comes twice.
pub(crate) fn pattern_files(
    paths: &[PathBuf],
    mut tick: impl FnMut(),
) -> (Vec<SourceFile>, Vec<Unreadable>) {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for path in paths {
        let before = (files.len(), unreadable.len());
        pattern_files_of(path, &mut tick, &mut files, &mut unreadable);
        if before == (files.len(), unreadable.len()) {
            let reason = "there are no pattern files in this directory".to_owned();
            unreadable.push(Unreadable { name: path.display().to_string(), reason });
        }
    }
    (each_once(files), unreadable)
}

/// The pattern files that the paths stand for now. That a file is gone, or all files of a
/// directory, is no failure; that a directory is gone is one.
pub(crate) fn pattern_files_left(
    files: &[PathBuf],
    directories: &[PathBuf],
) -> (Vec<SourceFile>, Vec<Unreadable>) {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for path in files.iter().filter(|path| path.exists()) {
        found.extend(read(path, &mut unreadable));
    }
    for path in directories {
        pattern_files_of(path, &mut || (), &mut found, &mut unreadable);
    }
    (each_once(found), unreadable)
}

fn pattern_files_of(
    path: &Path,
    tick: &mut impl FnMut(),
    files: &mut Vec<SourceFile>,
    unreadable: &mut Vec<Unreadable>,
) {
    if !path.is_dir() {
        tick();
        files.extend(read(path, unreadable));
        return;
    }
    let mut below = Vec::new();
    json_files(path, &mut below, unreadable);
    for file in below {
        tick();
        let found = read(&file, unreadable);
        files.extend(found.filter(|found| looks_like_pattern(&file, &found.text)));
    }
}

fn each_once(mut files: Vec<SourceFile>) -> Vec<SourceFile> {
    let mut seen = HashSet::new();
    files.retain(|file| {
        let path = Path::new(&file.name);
        seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    });
    files
}

/// The scenario files that the paths stand for, in the order given, those of a directory sorted.
/// No file comes twice.
pub(crate) fn scenario_files(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Unreadable>) {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = (files.len(), unreadable.len());
        let mut below = Vec::new();
        json_files(path, &mut below, &mut unreadable);
        files.extend(below.into_iter().filter(|file| looks_like_scenario(file)));
        if before == (files.len(), unreadable.len()) {
            let reason = "there are no scenario files in this directory".to_owned();
            unreadable.push(Unreadable { name: path.display().to_string(), reason });
        }
    }
    let mut seen = HashSet::new();
    files.retain(|path| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())));
    (files, unreadable)
}

/// A JSON file as a value; says what is wrong with it, and where.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Unreadable> {
    let text = read_text(path).map_err(|error| refused(path, &error))?;
    let mut reader = serde_json::Deserializer::from_str(&text);
    let refuse = |error: &serde_json::Error, field: String| {
        let text = match lone_surrogate(text.as_bytes()) {
            Some(fault) => fault.reason.to_string(),
            None => error.to_string(),
        };
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = text.strip_suffix(&place).unwrap_or(&text);
        let name = format!("{}:{}:{}", path.display(), error.line(), error.column());
        Unreadable { name, reason: format!("{field}{reason}") }
    };
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = match error.path().to_string() {
            field if field == "." || field == "?" => String::new(),
            field => format!("at `{field}`: "),
        };
        refuse(error.inner(), field)
    })?;
    reader.end().map_err(|error| refuse(&error, String::new()))?;
    Ok(value)
}

/// A file's text, without the byte order mark that some editors put in front of it.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = fs::read_to_string(path)?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn read(path: &Path, unreadable: &mut Vec<Unreadable>) -> Option<SourceFile> {
    let name = path.display().to_string();
    read_text(path)
        .map(|text| SourceFile::new(name, text))
        .map_err(|error| unreadable.push(refused(path, &error)))
        .ok()
}

pub(crate) fn refused(path: &Path, error: &io::Error) -> Unreadable {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "the file is no UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    Unreadable { name: path.display().to_string(), reason }
}

/// All `.json` files below a directory, hidden ones left out. Links to directories are not
/// followed, so that the walk ends.
fn json_files(directory: &Path, files: &mut Vec<PathBuf>, unreadable: &mut Vec<Unreadable>) {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return unreadable.push(refused(directory, &error)),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            json_files(&path, files, unreadable);
        } else if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
            files.push(path);
        }
    }
}

/// A file that is no JSON counts as a pattern when it mentions `reactions`: better to say that it
/// is broken than to pass over it.
fn looks_like_pattern(path: &Path, text: &str) -> bool {
    if path.to_string_lossy().ends_with(".pattern.json") {
        return true;
    }
    text.contains("\"reactions\"")
        && serde_json::from_str::<Value>(text)
            .map_or(true, |document| document.get("reactions").is_some())
}

fn looks_like_scenario(path: &Path) -> bool {
    if path.to_string_lossy().ends_with(".scenario.json") {
        return true;
    }
    let text = read_text(path).unwrap_or_default();
    text.contains("\"steps\"")
        && serde_json::from_str::<Value>(&text)
            .is_ok_and(|document| document.get("steps").is_some_and(Value::is_array))
}
