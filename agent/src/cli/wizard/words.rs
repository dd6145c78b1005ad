//! What the wizard says, in Vietnamese with English beside it, within the width of a terminal.

use clap::ValueEnum;

use crate::mapping::looks::Look;
use crate::mapping::propose::Reason;

/// A line is broken before it is wider than this; terminals have 80 columns.
const WIDTH_MAX: usize = 78;

/// In which language the wizard speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Lang {
    /// Vietnamese with English beside it.
    #[default]
    Both,
    /// Vietnamese alone.
    Vi,
    /// English alone.
    En,
}

impl Lang {
    /// The words in this language; both side by side where they fit on a line, else in two.
    pub(super) fn of(self, vi: &str, en: &str) -> String {
        match self {
            Self::Vi => wrapped(vi),
            Self::En => wrapped(en),
            Self::Both if vi == en => wrapped(vi),
            Self::Both if !vi.contains('\n') && width(vi) + width(en) + 3 <= WIDTH_MAX => {
                format!("{vi} · {en}")
            }
            Self::Both => format!("{}\n{}", wrapped(vi), wrapped(en)),
        }
    }

    /// Few words for the middle of a line.
    pub(super) fn short(self, vi: &str, en: &str) -> String {
        match self {
            Self::Vi => vi.to_owned(),
            Self::En => en.to_owned(),
            Self::Both => format!("{vi} · {en}"),
        }
    }

    /// Why a proposal is as sure as it is.
    pub(super) fn reason(self, reason: &Reason) -> String {
        match reason {
            Reason::SameName => self.short("trùng tên", "same name"),
            Reason::SameMeaning => self.short("tên cùng nghĩa", "same meaning"),
            Reason::LikeName => self.short("tên gần giống", "similar name"),
            Reason::OtherType => self.short("khác kiểu", "other type"),
            Reason::ValuesLook(look, percent) => self.short(
                &format!("{percent}% giá trị giống {}", look_words(*look).0),
                &format!("{percent}% look like {}", look_words(*look).1),
            ),
            Reason::ValuesLookElse(look) => self.short(
                &format!("giá trị lại giống {}", look_words(*look).0),
                &format!("values look like {}", look_words(*look).1),
            ),
            Reason::Nulls(count) => self.short(
                &format!("bắt buộc mà {count} dòng mẫu rỗng"),
                &format!("required, {count} sampled rows are null"),
            ),
            Reason::TooLong(found, agreed) => self.short(
                &format!("dài tới {found} ký tự, thỏa thuận {agreed}"),
                &format!("up to {found} characters, {agreed} agreed"),
            ),
        }
    }
}

/// What a value looks like, in Vietnamese and in English.
fn look_words(look: Look) -> (&'static str, &'static str) {
    let words = look.words();
    words.split_once(" · ").unwrap_or((words, words))
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Lines broken between words; a line's own blanks at its start are kept on those that follow.
pub(super) fn wrapped(text: &str) -> String {
    text.lines().map(wrapped_line).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str) -> String {
    if width(line) <= WIDTH_MAX {
        return line.to_owned();
    }
    let indent: String = line.chars().take_while(|letter| *letter == ' ').collect();
    let mut lines = vec![indent.clone()];
    for word in line.split_whitespace() {
        let Some(last) = lines.last_mut() else { break };
        let is_first = last.trim().is_empty();
        if !is_first && width(last) + 1 + width(word) > WIDTH_MAX {
            lines.push(format!("{indent}{word}"));
        } else {
            last.push_str(if is_first { "" } else { " " });
            last.push_str(word);
        }
    }
    lines.join("\n")
}

/// `text` in so many columns: cut with `…`, or filled with blanks.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return format!("{text:<columns$}");
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal_and_both_languages_stand_together() {
        assert_eq!(Lang::Both.of("Bảng", "Tables"), "Bảng · Tables");
        assert_eq!(Lang::En.of("Bảng", "Tables"), "Tables");
        let long = "  bảng ".repeat(40);
        let text = Lang::Both.of(&long, "Tables");
        assert!(text.ends_with("\nTables"), "{text}");
        assert!(text.lines().all(|line| width(line) <= WIDTH_MAX), "{text}");
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("  b")), "{text}");
        assert_eq!(fit("Nguyễn", 4), "Ngu…");
        assert_eq!(fit("An", 4), "An  ");
    }
}
