//! Where in a file a fault lies: file, line and column, as editors count them.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};
use serde::de::DeserializeOwned;

/// A configuration file or contract is a page or two; a larger file is a mistake.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file whose text is at hand.
pub(super) struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text }
    }

    /// The file itself.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// The folder that paths in the file are relative to.
    pub(super) fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// `rule`, after the place at which `span` begins.
    pub(super) fn say(&self, span: Range<usize>, rule: impl AsRef<str>) -> String {
        let (line, column) = line_and_column(self.text, span.start);
        format!("{}:{line}:{column}: {}", self.path.display(), rule.as_ref())
    }

    /// A fault at the place at which `span` begins.
    pub(super) fn fault(&self, span: Range<usize>, code: Code, rule: impl AsRef<str>) -> Fault {
        Fault::new(code, self.say(span, rule))
    }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    (line, last_line.chars().count() + 1)
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path, code: Code) -> Result<String, Fault> {
    let what = || format!("cannot read {}", path.display());
    let size = fs::metadata(path).map_err(|cause| Fault::because(code, what(), cause))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Fault::new(code, format!("{} is larger than 4 MiB", path.display())));
    }
    fs::read_to_string(path).map_err(|cause| Fault::because(code, what(), cause))
}

/// The file as written. `toml` names line, column and the keys that are allowed.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &str, code: Code) -> Result<T, Fault> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let place = Place::new(path, text);
        // The caret below the line helps, but a line that may hold a password written in by
        // mistake is not repeated.
        let quotes_secret = line_at(text, span.start).contains("pass");
        let shown = if quotes_secret { error.message().to_owned() } else { error.to_string() };
        place.fault(span, code, shown.trim_end())
    })
}

fn line_at(text: &str, offset: usize) -> &str {
    let start = text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default()
}
