//! Screens for the document: what differs from run to run is replaced, and the rest is compared.

use std::path::Path;

/// Screens of one way through a program, each with what it shows.
#[derive(Debug, Default)]
pub(crate) struct Captures {
    shown: Vec<(&'static str, String)>,
    /// What differs from run to run, and what stands for it; of the same width.
    pub(crate) differs: Vec<(String, String)>,
}

impl Captures {
    /// Keeps a screen.
    pub(crate) fn keep(&mut self, title: &'static str, screen: &str) {
        let mut screen = screen.to_owned();
        for (found, stands) in &self.differs {
            screen = screen.replace(found, stands);
        }
        self.shown.push((title, without_pseudonyms(&screen)));
    }

    /// Holds the screens to be those between this section's heading and the next in the document.
    pub(crate) fn compare(&self, file: &Path, heading: &str) {
        let mut section = format!("## {heading}\n");
        for (title, screen) in &self.shown {
            section += &format!("\n### {title}\n\n```text\n{screen}\n```\n");
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let start = text.find(&format!("## {heading}\n"));
        let (before, rest) = text.split_at(start.unwrap_or(text.len()));
        let end = rest.get(3..).and_then(|rest| rest.find("\n## ")).map(|end| end + 4);
        let (old, after) = rest.split_at(end.unwrap_or(rest.len()));
        if std::env::var_os("UPDATE").is_some() {
            let gap = if after.is_empty() { "" } else { "\n" };
            let new = format!("{before}{section}{gap}{after}");
            std::fs::write(file, new).expect("the document");
            return;
        }
        assert_eq!(old.trim_end(), section.trim_end(), "run with UPDATE=1 and review");
    }
}

/// Runs of hexadecimal digits, perhaps broken at the terminal's edge, are pseudonyms under a key of
/// this run.
fn without_pseudonyms(screen: &str) -> String {
    let (mut out, mut run) = (String::new(), String::new());
    for letter in screen.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() && !letter.is_ascii_uppercase() {
            run.push(letter);
            continue;
        }
        out += &if run.len() >= 10 { "0".repeat(run.len()) } else { run.clone() };
        run.clear();
        out.push(letter);
    }
    out.pop();
    out
}
