//! Texts that travel in a report: bounded, and nothing that a terminal would act on.

/// Characters of a position, a version or the name of a fault.
pub const TEXT_CHARACTERS_MAX: usize = 120;

/// A text as a report may carry it.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARACTERS_MAX).collect()
}

/// Whether a text is one that a report may carry.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARACTERS_MAX && !text.chars().any(char::is_control)
}
