//! Lets the operator change a text in an editor.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file of its own for the editor; removed at the end unless it is kept.
struct Draft(PathBuf);

/// What the operator made of a text.
pub struct Edited {
    /// The text.
    pub text: String,
    draft: Draft,
}

impl Edited {
    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.draft.0
    }

    /// Leaves the file there, and says where: the operator's work is not lost because of a mistake in it.
    pub fn keep(self) -> PathBuf {
        let path = self.draft.0.clone();
        std::mem::forget(self.draft);
        path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It may be gone already; a draft left behind does no harm.
        if let Err(error) = std::fs::remove_file(&self.0) {
            drop(error);
        }
    }
}

/// The text as the operator left it. Beforehand it stands in a new file that only this user can read.
///
/// # Errors
/// When there is no editor, or it fails.
pub fn edit(name: &str, text: &str) -> Result<Edited, Failure> {
    let draft = Draft(write_draft(name, text)?);
    let editor =
        ["VISUAL", "EDITOR"].into_iter().find_map(|key| std::env::var(key).ok()).filter(|e| !e.is_empty());
    let editor = editor.ok_or_else(|| Failure::Editor("no editor: set VISUAL or EDITOR".to_owned()))?;
    run(&editor, &draft.0)?;
    let text = std::fs::read_to_string(&draft.0)
        .map_err(|source| Failure::Io { doing: "reading the edited file", source })?;
    Ok(Edited { text, draft })
}

fn write_draft(name: &str, text: &str) -> Result<PathBuf, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let random = getrandom::u64().unwrap_or_default();
    let path = std::env::temp_dir().join(format!("musterctl-{name}-{random:016x}.toml"));
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Failure::Io { doing: "writing the file to edit", source })?;
    Ok(path)
}

/// The variable may hold arguments too, so the shell splits it, as git does.
#[expect(clippy::disallowed_methods, reason = "the operator's own editor, on the operator's own terminal")]
fn run(editor: &str, path: &Path) -> Result<(), Failure> {
    let status = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("editor")
        .arg(path)
        .status()
        .map_err(|source| Failure::Io { doing: "starting the editor", source })?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Editor(format!("nothing was changed: the editor ended with {status}")))
    }
}
