//! Which process has a directory open.

use std::{fmt, fs, path::Path};

/// A process: its number, and when it began, since numbers are used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pid: u32,
    /// As the system counts it; `None` where it does not tell.
    began: Option<u64>,
}

impl Signature {
    /// This process's.
    pub(crate) fn own() -> Self {
        let pid = std::process::id();
        Self { pid, began: began(pid) }
    }

    /// Reads one that a process has left.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(Self { pid, began: words.next().and_then(|began| began.parse().ok()) })
    }

    /// The number, unless the process has ended: a number may be left by one that was killed, and
    /// may be another's by now.
    pub(crate) fn pid_if_alive(&self) -> Option<u32> {
        if !Path::new("/proc/self/stat").exists() {
            return Some(self.pid);
        }
        let now = began(self.pid)?;
        self.began.is_none_or(|began| began == now).then_some(self.pid)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.began {
            Some(began) => write!(f, "{} {began}", self.pid),
            None => write!(f, "{}", self.pid),
        }
    }
}

/// When a process began, in ticks since the system did; `None` if there is none, or no `/proc`.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything. After it: the state first.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_number_that_is_not_the_processs_any_more_is_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let own = Signature::own();
        fs::write(&path, own.to_string()).unwrap();
        let read = Signature::read(&path).unwrap();
        assert_eq!((&read, read.pid_if_alive()), (&own, Some(own.pid)));
        let reused = Signature { began: own.began.map(|began| began + 1), ..own.clone() };
        assert_eq!(reused.pid_if_alive(), None, "another process has the number now");
        let gone = Signature { pid: u32::MAX, began: None };
        assert_eq!(gone.pid_if_alive(), None);
        // As earlier versions wrote it.
        fs::write(&path, own.pid.to_string()).unwrap();
        assert_eq!(Signature::read(&path).unwrap().pid_if_alive(), Some(own.pid));
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(Signature::read(&path), None);
    }
}
