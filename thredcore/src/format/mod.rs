//! Versions of what a store holds.
//!
//! A store says by a number which version of this project's stored forms it holds. A program reads
//! its own version and the one before, and makes new stores in its own. What it opens in the version
//! before stays in that, so that older programs go on beside it until all are replaced; then the
//! number is raised, with `srvthreds store upgrade` or the adapter's own function. That rewrites
//! nothing: both forms are read, and what is changed after that is written in the new one. A store
//! that is newer than the program is refused: it would take what it does not know for damaged, or
//! drop it.
//!
//! | version | what is new |
//! |---|---|
//! | 1 | never released, and not read |
//! | 2 | the first that was released |
//! | 3 | the text of a state leaves out what the store keeps beside it, and counts times from the start ([`StateForm::Compact`]) |

mod state;
mod upgrade;

pub use state::{StateFields, StateForm, StateText};
pub use upgrade::{Attendance, StoreFormat};

/// The versions that the stores of this version read, the newest of which they make.
pub const FORMATS: Formats = Formats::new(2, 3);

/// The versions that a program reads, the newest of which it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    oldest: u32,
    newest: u32,
}

impl Formats {
    /// Versions from `oldest` to `newest`.
    pub const fn new(oldest: u32, newest: u32) -> Self {
        assert!(oldest <= newest, "the oldest version comes first");
        Self { oldest, newest }
    }

    /// The version of a store that is made now.
    pub const fn newest(self) -> u32 {
        self.newest
    }

    /// The version that a store is made in, if another one is asked for: the nearest that is read.
    pub fn make(self, asked: Option<u32>) -> u32 {
        asked.map_or(self.newest, |asked| asked.clamp(self.oldest, self.newest))
    }

    /// Whether a store of a version can be used; gives the version, which is the one to write.
    ///
    /// # Errors
    /// It is newer than the program, or too old for it.
    pub fn check(self, found: u64) -> Result<u32, FormatError> {
        match u32::try_from(found) {
            Ok(version) if (self.oldest..=self.newest).contains(&version) => Ok(version),
            _ => Err(FormatError { found, formats: self }),
        }
    }
}

impl std::fmt::Display for Formats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.oldest == self.newest {
            write!(f, "format {}", self.newest)
        } else {
            write!(f, "formats {} to {}", self.oldest, self.newest)
        }
    }
}

/// A store whose version a program does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has format {found}, and this program reads {formats}; {}", self.remedy())]
pub struct FormatError {
    found: u64,
    formats: Formats,
}

impl FormatError {
    /// The version of the store.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// Whether the store is newer than the program.
    pub fn is_newer(&self) -> bool {
        self.found > u64::from(self.formats.newest)
    }

    fn remedy(&self) -> &'static str {
        if self.is_newer() {
            "use a program that is as new as the store; nothing was changed"
        } else {
            "upgrade the store with an older program first; nothing was changed"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_its_own_version_and_the_one_before() {
        let formats = Formats::new(2, 3);
        assert_eq!(formats.check(2), Ok(2));
        assert_eq!(formats.check(3), Ok(3));
        assert_eq!((formats.make(None), formats.make(Some(2))), (3, 2));
        assert_eq!((formats.make(Some(1)), formats.make(Some(4))), (2, 3));
        let newer = formats.check(4).unwrap_err();
        assert!(newer.is_newer());
        assert_eq!(
            newer.to_string(),
            "the store has format 4, and this program reads formats 2 to 3; \
             use a program that is as new as the store; nothing was changed"
        );
        let older = Formats::new(3, 3).check(1).unwrap_err();
        assert!(!older.is_newer());
        assert!(older.to_string().contains("reads format 3; upgrade"), "{older}");
        assert!(formats.check(u64::MAX).unwrap_err().is_newer());
    }
}
