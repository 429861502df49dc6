//! The folder that a command leaves behind: everything about one run, in one place, by one convention.
//!
//! `posse-trace/COMMAND-NAME/` holds `README.txt` (what broke, how to see it again, what each file is), `scenario.toml` if
//! there is one, `timeline.txt`, `trace.pcapng`, `trace.json` and `digest.txt`. It is written beside its place and then
//! moved there, so that a folder is whole or not there; and it takes the place of no other run's unless told so.

use super::page::{self, Page};
use super::{Filter, Trace};
use crate::scenario::{Scenario, Unwritable};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where folders go unless told otherwise.
pub const ROOT: &str = "posse-trace";

const README: &str = "README.txt";
const SCENARIO: &str = "scenario.toml";
const ORIGINAL: &str = "original.toml";
const TIMELINE: &str = "timeline.txt";
const CAPTURE: &str = "trace.pcapng";
const PAGE: &str = "index.html";
const JSON: &str = "trace.json";
const DIGEST: &str = "digest.txt";

/// What goes into a folder.
#[derive(Clone, Copy)]
pub struct Folder<'a> {
    /// The command that writes it: `run`, `swarm`.
    pub command: &'a str,
    /// What tells it from the command's other runs: a seed, a scenario's name, or both.
    pub name: &'a str,
    /// The first thing that broke, in one line; `None` if nothing did.
    pub broken: Option<&'a str>,
    /// The command that shows it again; `None`: that which runs the folder's scenario.
    pub replay: Option<&'a str>,
    /// What ran, with the seed that it ran with.
    pub scenario: Option<&'a Scenario>,
    /// What it was made smaller from.
    pub original: Option<&'a Scenario>,
    /// What happened.
    pub trace: Trace<'a>,
    /// The world's, at the end: it tells runs apart.
    pub digest: u128,
    /// Whether the folder of another run may be replaced; [`Written::replaced`] says so then.
    pub replace: bool,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The folder.
    pub path: PathBuf,
    /// How to see it again, as in its README.
    pub replay: String,
    /// The digest of the other run whose folder stood there before.
    pub replaced: Option<String>,
}

/// Why there is no folder. Each says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// No room.
    #[error("{}: the disk is full; free some space, or write the trace to another disk", .0.display())]
    Full(PathBuf),
    /// No right to write there.
    #[error("{}: not allowed to write there; choose a folder that you own", .0.display())]
    Denied(PathBuf),
    /// Another run's folder is there.
    #[error("{} holds the trace of another run (digest {theirs}); move or remove it, or write this one elsewhere", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
        /// The digest of that run.
        theirs: String,
    },
    /// Something is there that is no trace.
    #[error("{} exists and is no trace; it is left alone: write the trace elsewhere", .0.display())]
    Foreign(PathBuf),
    /// The scenario cannot be a file.
    #[error(transparent)]
    Scenario(#[from] Unwritable),
    /// Anything else.
    #[error("{}: {error}", path.display())]
    Other {
        /// What was to be written.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl FolderError {
    fn new(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied(path),
            _ => Self::Other { path, error },
        }
    }
}

impl Folder<'_> {
    /// Where it goes below `root`.
    pub fn path(&self, root: &Path) -> PathBuf {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = format!("{}-{}", self.command, self.name).replace(|c| !sound(c), "-");
        root.join(name)
    }

    /// Writes it below `root`, which is made if need be. The same run's folder is written again.
    ///
    /// # Errors
    /// If it cannot be written, or something else is there. What was there before is then as it was.
    pub fn write(&self, root: &Path) -> Result<Written, FolderError> {
        let path = self.path(root);
        let scenario = self.scenario.map(Scenario::to_toml).transpose()?;
        let original = self.original.map(Scenario::to_toml).transpose()?;
        let replaced = self.look(&path, scenario.as_deref())?;
        let partial = path.with_extension("partial");
        remove(&partial)?;
        let replay = self.replay.map_or_else(|| self.rerun("run", &path), str::to_owned);
        let moved = self
            .fill(&partial, (scenario.as_deref(), original.as_deref()), &replay)
            .and_then(|()| remove(&path))
            .and_then(|()| fs::rename(&partial, &path).map_err(|error| FolderError::new(&path, error)));
        if let Err(error) = moved {
            // What is left of the attempt would only take space; what went wrong before matters more.
            _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        Ok(Written { path, replay, replaced })
    }

    /// The command that has `verb` (`run`, `replay`) see to the scenario of the folder at `path`; or a word that there is none.
    pub fn rerun(&self, verb: &str, path: &Path) -> String {
        match self.scenario {
            Some(_) => format!("cargo sim {verb} {}", quoted(&path.join(SCENARIO).display().to_string())),
            None => "none: this run is no scenario".to_owned(),
        }
    }

    /// Whether `path` is free for this run; the digest of another run that has to go.
    fn look(&self, path: &Path, scenario: Option<&str>) -> Result<Option<String>, FolderError> {
        match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(FolderError::Foreign(path.to_owned()));
            }
            Err(error) => return Err(FolderError::new(path, error)),
            Ok(mut entries) => {
                if entries.next().is_none() {
                    return Ok(None);
                }
            }
        }
        let theirs = read(&path.join(DIGEST))?.ok_or_else(|| FolderError::Foreign(path.to_owned()))?;
        if theirs == self.digest_text() && read(&path.join(SCENARIO))?.as_deref() == scenario {
            return Ok(None);
        }
        let theirs = theirs.lines().next().unwrap_or_default().to_owned();
        if self.replace { Ok(Some(theirs)) } else { Err(FolderError::Exists { path: path.to_owned(), theirs }) }
    }

    fn fill(
        &self,
        folder: &Path,
        (scenario, original): (Option<&str>, Option<&str>),
        replay: &str,
    ) -> Result<(), FolderError> {
        fs::create_dir_all(folder).map_err(|error| FolderError::new(folder, error))?;
        let file = |name: &str, write: &dyn Fn(&mut BufWriter<File>) -> io::Result<()>| {
            let path = folder.join(name);
            let written = File::create(&path).map(BufWriter::new).and_then(|mut out| {
                write(&mut out)?;
                out.flush()
            });
            written.map_err(|error| FolderError::new(&path, error))
        };
        file(README, &|out| out.write_all(self.readme(replay).as_bytes()))?;
        file(DIGEST, &|out| out.write_all(self.digest_text().as_bytes()))?;
        for (name, text) in [(SCENARIO, scenario), (ORIGINAL, original)] {
            if let Some(text) = text {
                file(name, &|out| out.write_all(text.as_bytes()))?;
            }
        }
        file(TIMELINE, &|out| self.trace.timeline(Filter::All, out))?;
        file(CAPTURE, &|out| self.trace.pcapng(out))?;
        file(JSON, &|out| self.trace.json(out))?;
        let mut files = Vec::new();
        files.extend(scenario.map(|_| (SCENARIO, "what ran")));
        files.extend(original.map(|_| (ORIGINAL, "what it was made smaller from")));
        files.push((TIMELINE, "every event in words"));
        files.push((CAPTURE, "every packet at every interface, for Wireshark"));
        files.push((JSON, "every event, for programs"));
        let title = self.scenario.map_or(self.name, |scenario| &scenario.title);
        let page = Page { title, broken: self.broken, replay, digest: self.digest, files: &files };
        file(PAGE, &|out| page::write(&self.trace, &page, out))
    }

    fn digest_text(&self) -> String {
        format!("{:032x}\n", self.digest)
    }

    /// Three lines.
    fn readme(&self, replay: &str) -> String {
        let broken = self.broken.unwrap_or("nothing").replace(char::is_control, " ");
        let scenario = match (self.scenario, self.original) {
            (None, _) => "",
            (Some(_), None) => "scenario.toml is what ran; ",
            (Some(_), Some(_)) => "scenario.toml is what ran; original.toml is what it was made smaller from; ",
        };
        format!(
            "Broken: {broken} (digest {:032x})\n\
            Replay: {replay}\n\
            Files: index.html shows it in a browser; {scenario}timeline.txt is every event in words; trace.pcapng opens in Wireshark; trace.json is for \
            programs; digest.txt tells runs apart (docs/traces.md)\n",
            self.digest
        )
    }
}

/// A file's text; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, FolderError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FolderError::new(path, error)),
    }
}

fn remove(path: &Path) -> Result<(), FolderError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FolderError::new(path, error)),
        _ => Ok(()),
    }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_told_with_what_to_do() {
        let said = |kind: io::ErrorKind| FolderError::new(Path::new("here"), kind.into()).to_string();
        assert!(said(io::ErrorKind::StorageFull).contains("here: the disk is full; free some space"));
        assert!(said(io::ErrorKind::QuotaExceeded).contains("the disk is full"));
        assert!(said(io::ErrorKind::PermissionDenied).contains("choose a folder that you own"));
        assert!(said(io::ErrorKind::ReadOnlyFilesystem).contains("not allowed"));
        assert!(said(io::ErrorKind::Interrupted).starts_with("here: "));
    }

    #[test]
    fn a_path_is_one_word_to_a_shell() {
        assert_eq!(quoted("posse-trace/run-demo-1/scenario.toml"), "posse-trace/run-demo-1/scenario.toml");
        assert_eq!(quoted("my trace/it's"), "'my trace/it'\\''s'");
    }
}
