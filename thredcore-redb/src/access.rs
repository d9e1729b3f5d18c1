//! Who may read a directory: the user of the process alone.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

/// Files and directories of ours, beside which nothing else should be in a directory.
#[cfg(unix)]
const OURS: &[&str] = &["threds.redb", "pid", "probe", "control.sock", "control.new"];

/// Makes a directory that nobody else may look into. One that is there already stays as it is.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Opens a file that nobody else may read, whoever could before.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = open_as_it_is(path, options)?;
    #[cfg(unix)]
    restrict(path, 0o600);
    Ok(file)
}

/// Opens a file that may be another's; one that is made by that is for its user alone.
pub(crate) fn open_as_it_is(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Closes a file of ours to others, and its directory, unless that holds other things too.
#[cfg(unix)]
pub(crate) fn close_to_others(path: &Path, file: &Path) {
    restrict(file, 0o600);
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let foreign = entries
        .map(|entry| entry.file_name())
        .find(|name| !OURS.iter().any(|ours| name.as_os_str() == *ours));
    match foreign {
        None => restrict(path, 0o700),
        Some(other) => tracing::info!(
            path = %path.display(), ?other,
            "the directory holds other things too, so its permissions stay as they are"
        ),
    }
}

#[cfg(not(unix))]
pub(crate) fn close_to_others(_path: &Path, _file: &Path) {}

/// Takes away what others may do. Who is not the owner cannot, as with volumes that a container is
/// given; that is for the owner to see to.
#[cfg(unix)]
fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = fs::metadata(path) else { return };
    if metadata.permissions().mode() & 0o077 == 0 {
        return;
    }
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        tracing::warn!(path = %path.display(), %error, "other users may be able to read it");
    }
}
