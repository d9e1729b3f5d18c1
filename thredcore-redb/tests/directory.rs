//! What is in a directory, who may read it, and who has it open.

use std::{fs, path::Path};

use redb::{Database, TableDefinition};
use thredcore_redb::{RedbBackends, RedbConfig, RedbError};

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
#[cfg(unix)]
fn a_directory_and_its_files_are_for_their_user_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/data");
    let backends = RedbBackends::open(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for file in ["threds.redb", "pid"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    drop(backends);
    // As an earlier version left them.
    set_mode(&dir, 0o755);
    set_mode(&dir.join("threds.redb"), 0o644);
    let backends = RedbBackends::open(&dir).unwrap();
    assert_eq!((mode(&dir), mode(&dir.join("threds.redb"))), (0o700, 0o600));
    drop(backends);
    // What is not ours alone is not ours to close.
    set_mode(&dir, 0o755);
    fs::write(dir.join("letter"), "from somebody else").unwrap();
    drop(RedbBackends::open(&dir).unwrap());
    assert_eq!((mode(&dir), mode(&dir.join("threds.redb"))), (0o755, 0o600));
}

#[test]
fn a_second_one_is_told_who_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let first = RedbBackends::open(dir.path()).unwrap();
    let told = |expected: Option<u32>| match RedbBackends::open(dir.path()) {
        Err(RedbError::InUse { pid, .. }) => assert_eq!(pid, expected),
        other => panic!("{other:?}"),
    };
    told(Some(std::process::id()));
    // The number of a process that was killed long ago is nobody's.
    #[cfg(target_os = "linux")]
    {
        fs::write(dir.path().join("pid"), "4194999 17").unwrap();
        told(None);
        fs::write(dir.path().join("pid"), "4194999").unwrap();
        told(None);
    }
    drop(first);
    let second = RedbBackends::open(dir.path()).unwrap();
    assert!(dir.path().join("pid").exists());
    drop(second);
    assert!(!dir.path().join("pid").exists(), "closed in order, it names nobody");
}

#[test]
fn a_newer_store_is_refused_and_stays_as_it_is() {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let dir = tempfile::tempdir().unwrap();
    drop(RedbBackends::open(dir.path()).unwrap());
    let file = dir.path().join("threds.redb");
    let set = |format: u64| {
        let database = Database::open(&file).unwrap();
        let txn = database.begin_write().unwrap();
        let before =
            txn.open_table(META).unwrap().insert("format", format).unwrap().unwrap().value();
        txn.commit().unwrap();
        before
    };
    let current = set(1000);
    for _ in 0..2 {
        let error = RedbBackends::open(dir.path()).unwrap_err();
        let RedbError::Format { problem, .. } = &error else { panic!("{error}") };
        assert!(problem.is_newer());
        let text = error.to_string();
        for part in ["has format 1000", &format!("{current}"), "as new as the store"] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(set(current), 1000);
    RedbBackends::open(dir.path()).unwrap();
}

#[test]
fn to_look_makes_no_store() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let look = || RedbBackends::open_with(&dir, RedbConfig::default().create(false));
    let nothing = || match look() {
        Err(RedbError::Nothing { dir: told }) => assert_eq!(told, dir),
        other => panic!("{other:?}"),
    };
    nothing();
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    nothing();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    // Somebody was killed who had just begun to make one.
    fs::write(dir.join("threds.redb"), "").unwrap();
    nothing();
    assert_eq!(fs::metadata(dir.join("threds.redb")).unwrap().len(), 0);
    drop(RedbBackends::open(&dir).unwrap());
    look().unwrap();
}

#[test]
fn what_is_no_store_is_named_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("threds.redb");
    for create in [true, false] {
        let config = RedbConfig::default().create(create);
        fs::write(&file, "my diary").unwrap();
        #[cfg(unix)]
        set_mode(&file, 0o644);
        unusable(dir.path(), config.clone(), "magic number mismatch");
        assert_eq!(fs::read_to_string(&file).unwrap(), "my diary");
        #[cfg(unix)]
        assert_eq!(mode(&file), 0o644);
        fs::remove_file(&file).unwrap();

        let database = Database::create(&file).unwrap();
        let txn = database.begin_write().unwrap();
        txn.open_table(TableDefinition::<u64, u64>::new("others")).unwrap();
        txn.commit().unwrap();
        drop(database);
        unusable(dir.path(), config.clone(), "another program has made it");
        fs::remove_file(&file).unwrap();

        let Err(error) = RedbBackends::open_with("Cargo.toml", config) else { panic!() };
        assert!(matches!(error, RedbError::NotADirectory { .. }), "{error:?}");
    }
}

#[test]
fn a_damaged_store_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(RedbBackends::open(dir.path()).unwrap());
    let file = dir.path().join("threds.redb");
    let whole = fs::read(&file).unwrap();
    let cut = |bytes: usize| whole[..bytes].to_vec();
    let overwritten = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at..at + 256].fill(0xa7);
        bytes
    };
    // The database panics on the last one.
    for damaged in [cut(100), cut(whole.len() / 2), overwritten(64), overwritten(4096)] {
        fs::write(&file, damaged).unwrap();
        unusable(dir.path(), RedbConfig::default(), "");
    }
    fs::write(&file, whole).unwrap();
    RedbBackends::open(dir.path()).unwrap();
}

/// It cannot be opened, and the error tells which file it is, and what to do.
fn unusable(dir: &Path, config: RedbConfig, why: &str) {
    let error = RedbBackends::open_with(dir, config).unwrap_err();
    let RedbError::Unusable { path, source } = &error else { panic!("{error:?}") };
    assert_eq!(*path, dir.join("threds.redb"));
    assert!(source.to_string().contains(why), "{source}");
    let text = error.to_string();
    for part in ["threds.redb is damaged, or no store of threds", "put back a copy"] {
        assert!(text.contains(part), "{text}");
    }
}
