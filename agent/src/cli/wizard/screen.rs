//! The wizard's screen: what it said, the question, the answer. Answers are kept in a file as they
//! are given, so that leaving loses nothing; `<` takes the last one back.
//!
//! The wizard walks through its questions from the beginning each time: one that is answered is not
//! asked again, and what was said before it is not shown again. Going back is forgetting the last
//! answer and walking anew.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use phusa_protocol::fault::{Code, Fault};

use super::files;
use super::words::{Lang, wrapped};

/// More letters than this are no answer.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Why the walk through the questions ends before its end.
#[derive(Debug)]
pub(super) enum Leave {
    /// The last answer is taken back; walk anew.
    Back,
    /// The person leaves; answers are kept.
    Quit,
    /// It cannot go on.
    Fault(Fault),
}

impl From<Fault> for Leave {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a step of the walk gives.
pub(super) type Asked<T> = Result<T, Leave>;

/// One question.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    /// Under which name its answer is kept.
    pub(super) key: String,
    pub(super) vi: String,
    pub(super) en: String,
    /// What an empty answer stands for.
    pub(super) default: Option<String>,
}

impl Question {
    pub(super) fn new(key: impl Into<String>, vi: &str, en: &str) -> Self {
        Self { key: key.into(), vi: vi.to_owned(), en: en.to_owned(), default: None }
    }

    pub(super) fn or(self, default: impl Into<String>) -> Self {
        Self { default: Some(default.into()), ..self }
    }
}

/// Why an answer is none, in Vietnamese and English.
pub(super) type NoAnswer = (String, String);

/// What comes of something typed that is no answer.
#[derive(Debug)]
pub(super) enum Instead {
    /// It is wrong, and this is why.
    Wrong(NoAnswer),
    /// It asked to see this.
    Shown(String),
}

impl From<NoAnswer> for Instead {
    fn from(why: NoAnswer) -> Self {
        Self::Wrong(why)
    }
}

/// What a person sees and says.
#[derive(Debug)]
pub(super) struct Screen {
    lang: Lang,
    answers: BTreeMap<String, String>,
    /// Whether the answers come from a file alone.
    scripted: bool,
    /// Where answers are kept.
    kept: PathBuf,
    /// Answered on this walk, in order.
    trail: Vec<String>,
    /// Said since the last question.
    said: String,
}

impl Screen {
    /// A screen whose answers come from `script`, or else from a person and `kept`.
    pub(super) fn open(lang: Lang, kept: &Path, script: Option<&Path>) -> Result<Self, Fault> {
        let from = script.unwrap_or(kept);
        let answers = if script.is_some() || from.exists() { read(from)? } else { BTreeMap::new() };
        let (kept, scripted) = (kept.to_owned(), script.is_some());
        Ok(Self { lang, answers, scripted, kept, trail: Vec::new(), said: String::new() })
    }

    pub(super) fn lang(&self) -> Lang {
        self.lang
    }

    /// Whether nobody is there to be asked.
    pub(super) fn is_scripted(&self) -> bool {
        self.scripted
    }

    /// How many answers are there.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Begins the walk anew.
    pub(super) fn begin(&mut self) {
        self.trail.clear();
        self.said.clear();
    }

    /// Says something before the next question.
    pub(super) fn say(&mut self, vi: &str, en: &str) {
        let text = self.lang.of(vi, en);
        self.line(&text);
    }

    /// A line that is the same in both languages.
    pub(super) fn line(&mut self, text: &str) {
        self.said.push_str(text);
        self.said.push('\n');
    }

    /// Says a fault: what was tried, what it means, what to do.
    pub(super) fn fault(&mut self, fault: &Fault) {
        let words = fault.code.words();
        self.line(&wrapped(&format!("✗ {}: {}", words.name, fault.chain())));
        self.say(&format!("  {}", words.meaning_vi), &format!("  {}", words.meaning_en));
        self.say(&format!("  → {}", words.remedy_vi), &format!("  → {}", words.remedy_en));
    }

    /// Shows what was said so far.
    pub(super) fn show(&mut self) {
        print(&std::mem::take(&mut self.said));
    }

    /// Asks until `check` takes the answer; one that is kept is not asked for again.
    pub(super) fn ask<T, I: Into<Instead>>(
        &mut self,
        question: &Question,
        mut check: impl FnMut(&str) -> Result<T, I>,
    ) -> Asked<T> {
        let mut check = |answer: &str| check(answer).map_err(Into::into);
        let kept = self.answers.get(&question.key).cloned();
        let kept = kept.or_else(|| question.default.clone().filter(|_| self.scripted));
        match kept.map(|answer| (check(&answer), answer)) {
            Some((Ok(value), answer)) => {
                self.answered(question, &answer);
                return Ok(value);
            }
            Some((Err(instead), answer)) if self.scripted => {
                let why = match instead {
                    Instead::Wrong((_, why)) | Instead::Shown(why) => why,
                };
                let what = format!("the answer {answer:?} to `{}`: {why}", question.key);
                return Err(Fault::new(Code::ConfigInvalid, what).into());
            }
            None if self.scripted => {
                let what = format!("the answers' file has no `{}`", question.key);
                return Err(Fault::new(Code::ConfigInvalid, what).into());
            }
            Some((Err(_), _)) | None => {}
        }
        self.answers.remove(&question.key);
        self.show();
        loop {
            self.prompt(question);
            let answer = self.read_line(question)?;
            match check(&answer) {
                Ok(value) => {
                    self.keep(&question.key, &answer)?;
                    return Ok(value);
                }
                Err(Instead::Shown(text)) => print(&text),
                Err(Instead::Wrong((vi, en))) => {
                    let why = self.lang.of(&format!("✗ {vi}"), &format!("✗ {en}"));
                    print(&format!("{why}\n"));
                }
            }
        }
    }

    /// Shows what was said and waits until the person wants to go on.
    pub(super) fn pause(&mut self, vi: &str, en: &str) -> Asked<()> {
        self.show();
        if self.scripted {
            return Ok(());
        }
        let question = Question::new("", vi, en).or("");
        self.prompt(&question);
        self.read_line(&question).map(drop)
    }

    /// A secret, without echo on a terminal; empty where the person wants to keep what is there.
    pub(super) fn secret(&mut self, question: &Question) -> Asked<String> {
        use std::io::IsTerminal as _;
        self.show();
        if !std::io::stdin().is_terminal() {
            self.prompt(question);
            return self.read_line(&question.clone().or(""));
        }
        let prompt = self.asked(question);
        let failed = |error| Fault::because(Code::DiskFailed, "cannot read the password", error);
        let secret = rpassword::prompt_password(format!("{prompt}: ")).map_err(failed)?;
        match secret.as_str() {
            "<" => Err(self.back()),
            _ => Ok(secret),
        }
    }

    /// Notes the answer to a question that was asked in another way.
    pub(super) fn keep(&mut self, key: &str, answer: &str) -> Result<(), Fault> {
        self.answers.insert(key.to_owned(), answer.to_owned());
        self.trail.push(key.to_owned());
        self.save()
    }

    fn save(&self) -> Result<(), Fault> {
        if self.scripted {
            return Ok(());
        }
        let line = |(key, answer): (&String, &String)| {
            format!(
                "{} = {}\n",
                toml::Value::from(key.as_str()),
                toml::Value::from(answer.as_str())
            )
        };
        let head = "# Câu trả lời của `phusa-agent wizard`; không có mật khẩu.\n\
                    # Answers given to `phusa-agent wizard`; no passwords.\n\n";
        let lines: String = self.answers.iter().map(line).collect();
        files::write(&self.kept, &format!("{head}{lines}"), 0o600)
    }

    /// Notes something that is no answer and is not taken back by `<`.
    pub(super) fn note(&mut self, key: &str) -> Result<(), Fault> {
        self.answers.insert(key.to_owned(), "y".to_owned());
        self.save()
    }

    /// Whether that was noted.
    pub(super) fn is_noted(&self, key: &str) -> bool {
        self.answers.contains_key(key)
    }

    /// Lets a question be asked again.
    pub(super) fn forget(&mut self, key: &str) {
        self.answers.remove(key);
    }

    /// What is kept under this key, which counts as answered.
    pub(super) fn known(&mut self, key: &str) -> Option<String> {
        let known = self.answers.get(key).cloned()?;
        self.trail.push(key.to_owned());
        Some(known)
    }

    fn answered(&mut self, question: &Question, answer: &str) {
        self.trail.push(question.key.clone());
        if self.scripted {
            self.show();
            let asked = self.asked(question);
            print(&format!("{asked}: {answer}\n"));
        }
        self.said.clear();
    }

    fn asked(&self, question: &Question) -> String {
        let default = match question.default.as_deref() {
            None | Some("") => String::new(),
            Some(default) => format!(" [{default}]"),
        };
        let (vi, en) = (&question.vi, format!("{}{default}", question.en));
        match self.lang {
            Lang::Both => self.lang.of(&format!("▸ {vi}"), &en),
            Lang::Vi => self.lang.of(&format!("▸ {vi}{default}"), ""),
            Lang::En => self.lang.of("", &format!("▸ {en}")),
        }
    }

    fn prompt(&self, question: &Question) {
        print(&format!("{}: ", self.asked(question)));
    }

    /// One line of the person's: `<` goes back, `q` and the end of the input leave.
    fn read_line(&mut self, question: &Question) -> Asked<String> {
        let mut line = String::new();
        let failed = |error| Fault::because(Code::DiskFailed, "cannot read the answer", error);
        let mut input = std::io::stdin().lock();
        let read = std::io::Read::take(&mut input, ANSWER_BYTES_MAX).read_line(&mut line);
        let answer = match read.map_err(failed)? {
            0 => return Err(Leave::Quit),
            _ => line.trim(),
        };
        match (answer, &question.default) {
            ("<", _) => Err(self.back()),
            ("q", _) => Err(Leave::Quit),
            ("", Some(default)) => Ok(default.clone()),
            (answer, _) => Ok(answer.to_owned()),
        }
    }

    /// Forgets the last answer.
    fn back(&mut self) -> Leave {
        if let Some(key) = self.trail.pop() {
            self.answers.remove(&key);
        }
        Leave::Back
    }
}

/// Answers as kept: a text for each question.
fn read(file: &Path) -> Result<BTreeMap<String, String>, Fault> {
    let what = || format!("cannot use the answers in {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::because(Code::ConfigInvalid, what(), error))?;
    toml::from_str(&text).map_err(|error| Fault::because(Code::ConfigInvalid, what(), error))
}

/// Writes to the terminal at once, whole lines or not.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that has gone away is noticed by reading from it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
