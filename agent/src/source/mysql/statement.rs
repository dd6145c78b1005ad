//! Pure: what a statement in the log does to one table. Words only: enough to see that it names
//! the table and what it begins with, and when in doubt it counts as doing it.

/// What a statement means for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing.
    None,
    /// A transaction begins.
    Begin,
    /// The transaction is committed.
    Commit,
    /// The transaction is taken back.
    Rollback,
    /// The transaction is taken back in part.
    RollbackTo,
    /// A transaction begins whose commit comes later, by name.
    XaStart,
    /// A prepared transaction is committed.
    XaCommit,
    /// A prepared transaction is taken back.
    XaRollback,
    /// The table was emptied.
    Truncate,
    /// The table was changed in its shape.
    Alter,
    /// The table was made, dropped, renamed, or replaced by another.
    Replace,
    /// Rows were changed without being in the log.
    Statement,
}

/// One word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// A name or keyword, as written.
    Name(String),
    Sign(char),
}

impl Word {
    fn name_of(word: Option<&Self>) -> Option<&str> {
        match word {
            Some(Self::Name(name)) => Some(name),
            Some(Self::Sign(_)) | None => None,
        }
    }

    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Name(name) if name.eq_ignore_ascii_case(keyword))
    }
}

/// What `text`, run in `current` schema, means for `schema`.`table`.
pub(super) fn meaning(text: &[u8], current: &[u8], (schema, table): (&str, &str)) -> Meaning {
    let text = String::from_utf8_lossy(text);
    let words = words(&text);
    let Some(first) = words.first() else { return Meaning::None };
    let second = words.get(1);
    let second_is = |keyword: &str| second.is_some_and(|word| word.is(keyword));
    if let Some(meaning) = of_transaction(first, &words) {
        return meaning;
    }
    if first.is("drop") && (second_is("database") || second_is("schema")) {
        let named = words.iter().any(|word| matches!(word, Word::Name(name) if same(name, schema)));
        return if named { Meaning::Replace } else { Meaning::None };
    }
    if !names(&words, &String::from_utf8_lossy(current), schema, table) {
        return Meaning::None;
    }
    let has = |keyword: &str| words.iter().any(|word| word.is(keyword));
    let makes_or_drops = first.is("create") || first.is("drop");
    if first.is("truncate") {
        Meaning::Truncate
    } else if first.is("rename") {
        Meaning::Replace
    } else if second_is("temporary") {
        Meaning::None
    } else if makes_or_drops && is_table(&words) {
        Meaning::Replace
    } else if makes_or_drops && has("index") {
        Meaning::Alter
    } else if first.is("alter") && is_table(&words) {
        of_alter(&words)
    } else if CHANGING.iter().any(|verb| first.is(verb)) {
        Meaning::Statement
    } else {
        Meaning::None
    }
}

/// The name of a prepared transaction as `XA COMMIT X'61',X'',1` writes it: two parts in
/// hexadecimal digits.
pub(super) fn xa_name(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let mut parts = text.split('\'').skip(1).step_by(2);
    let (global, branch) = (parts.next()?, parts.next().unwrap_or_default());
    Some(format!("{},{}", global.to_ascii_lowercase(), branch.to_ascii_lowercase()))
}

/// Verbs that change rows.
const CHANGING: [&str; 7] = ["insert", "update", "delete", "replace", "load", "with", "import"];

fn of_transaction(first: &Word, words: &[Word]) -> Option<Meaning> {
    let second_is = |keyword: &str| words.get(1).is_some_and(|word| word.is(keyword));
    let to = || words.iter().any(|word| word.is("to"));
    let xa = first.is("xa");
    let meanings = [
        (first.is("begin") || (first.is("start") && second_is("transaction")), Meaning::Begin),
        (first.is("commit"), Meaning::Commit),
        (first.is("rollback") && to(), Meaning::RollbackTo),
        (first.is("rollback"), Meaning::Rollback),
        (first.is("savepoint"), Meaning::None),
        (xa && (second_is("start") || second_is("begin")), Meaning::XaStart),
        (xa && second_is("commit"), Meaning::XaCommit),
        (xa && second_is("rollback"), Meaning::XaRollback),
        (xa, Meaning::None),
    ];
    meanings.into_iter().find(|(is_so, _)| *is_so).map(|(_, meaning)| meaning)
}

/// Whether the statement is about a table and not a view, an index or a trigger: the word stands
/// among the first few.
fn is_table(words: &[Word]) -> bool {
    let end = words.iter().position(|word| matches!(word, Word::Sign(_))).unwrap_or(words.len());
    words.iter().take(end.min(6)).any(|word| word.is("table") || word.is("tables"))
}

/// An `alter table` that empties partitions, exchanges them, or gives the table another name or
/// other files leaves no rows in the log.
fn of_alter(words: &[Word]) -> Meaning {
    let has = |keyword: &str| words.iter().any(|word| word.is(keyword));
    let partitions = has("partition") && (has("truncate") || has("drop") || has("exchange"));
    let moved = words.windows(2).any(|pair| match pair {
        [rename, next] => {
            let part = ["column", "index", "key"].iter().any(|keyword| next.is(keyword));
            rename.is("rename") && !part
        }
        _ => false,
    });
    if partitions || moved || has("tablespace") { Meaning::Replace } else { Meaning::Alter }
}

/// Whether an `alter table` puts another column in the place of one of these: adds it, or gives its
/// name to another. What the column held until then is not in the log, and the catalogue, looked at
/// afterwards, shows nothing.
pub(super) fn replaces_column<'c>(text: &[u8], mut columns: impl Iterator<Item = &'c str>) -> bool {
    let text = String::from_utf8_lossy(text);
    let words = words(&text);
    let made = columns_made(&words);
    columns.any(|column| made.iter().any(|name| same(name, column)))
}

/// The names that an `alter table` gives to columns that did not have them.
fn columns_made(words: &[Word]) -> Vec<&str> {
    const BETWEEN: [&str; 4] = ["column", "if", "not", "exists"];
    let name = Word::name_of;
    let mut made = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let rest = words.get(place + 1..).unwrap_or_default();
        let is_between = |word: &&Word| BETWEEN.iter().any(|between| word.is(between));
        let skipped = rest.iter().take_while(is_between).count();
        let rest = rest.get(skipped..).unwrap_or_default();
        if word.is("add") && rest.first() == Some(&Word::Sign('(')) {
            let opens = |word: &Word| matches!(word, Word::Sign('(' | ','));
            let named = rest.windows(2).filter(|pair| pair.first().is_some_and(opens));
            made.extend(named.filter_map(|pair| name(pair.get(1))));
        } else if word.is("add") {
            made.extend(name(rest.first()));
        } else if word.is("change") && name(rest.first()) != name(rest.get(1)) {
            made.extend(name(rest.get(1)));
        } else if word.is("rename") && rest.get(1).is_some_and(|word| word.is("to")) {
            made.extend(name(rest.get(2)));
        }
    }
    made
}

/// MySQL may or may not tell upper from lower case in names; a table too many does no harm.
fn same(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// Whether the table is named: after its schema, or alone where its schema is the current one.
fn names(words: &[Word], current: &str, schema: &str, table: &str) -> bool {
    words.iter().enumerate().any(|(at, word)| {
        let Word::Name(name) = word else { return false };
        if !same(name, table) {
            return false;
        }
        let before = |count: usize| at.checked_sub(count).and_then(|at| words.get(at));
        match (before(1), before(2)) {
            (Some(Word::Sign('.')), Some(Word::Name(of))) => same(of, schema),
            _ => same(current, schema),
        }
    })
}

/// The words of a statement. Comments are left out, but for those that the server runs; texts
/// are left out as well.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if letter.is_whitespace() {
            rest = rest.trim_start();
        } else if rest.starts_with("/*!") || rest.starts_with("/*M!") {
            let code = rest.trim_start_matches("/*").trim_start_matches(['M', '!']);
            rest = code.trim_start_matches(|letter: char| letter.is_ascii_digit());
        } else if rest.starts_with("*/") {
            rest = rest.get(2..).unwrap_or_default();
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
        } else if rest.starts_with('#') || rest.starts_with("-- ") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if matches!(letter, '`' | '"' | '\'') {
            let (name, after) = quoted(rest, letter);
            if letter != '\'' {
                words.push(Word::Name(name));
            }
            rest = after;
        } else if is_name(letter) {
            let end = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
            let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            words.push(Word::Name(name.to_owned()));
            rest = after;
        } else {
            words.push(Word::Sign(letter));
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
    }
    words
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric()
        || letter == '_'
        || letter == '$'
        || letter == '@'
        || !letter.is_ascii()
}

/// What stands between quotes, and what comes after.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && quote != '`' {
            letters.next();
        } else if letter == quote {
            if letters.next_if(|(_, next)| *next == quote).is_none() {
                return (name, text.get(at + quote.len_utf8()..).unwrap_or_default());
            }
            name.push(quote);
        } else {
            name.push(letter);
        }
    }
    (name, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_known_by_their_first_words_and_the_tables_they_name() {
        let check = |text: &str, expected: Meaning| {
            let found = meaning(text.as_bytes(), b"hotich", ("hotich", "dan"));
            assert_eq!(found, expected, "{text}");
        };
        check("BEGIN", Meaning::Begin);
        check("COMMIT", Meaning::Commit);
        check("ROLLBACK", Meaning::Rollback);
        check("ROLLBACK TO `a`", Meaning::RollbackTo);
        check("SAVEPOINT `a`", Meaning::None);
        check("XA START X'61',X'',1", Meaning::XaStart);
        check("XA COMMIT X'61',X'',1", Meaning::XaCommit);
        check("truncate dan", Meaning::Truncate);
        check("TRUNCATE TABLE `hotich`.`dan`", Meaning::Truncate);
        check("truncate table khac.dan", Meaning::None);
        check("truncate table dan_cu", Meaning::None);
        check("drop table if exists a, dan /* generated */", Meaning::Replace);
        check("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `dan`", Meaning::None);
        check("create temporary table dan (id int)", Meaning::None);
        check("create or replace table dan (id int)", Meaning::Replace);
        check("rename table `dan` to `_dan_old`, `_dan_gho` to `dan`", Meaning::Replace);
        check("alter table dan add column x int", Meaning::Alter);
        check("ALTER TABLE hotich.dan RENAME COLUMN a TO b", Meaning::Alter);
        check("alter table dan rename to nguoi", Meaning::Replace);
        check("alter table dan rename nguoi", Meaning::Replace);
        check("alter table dan truncate partition p0", Meaning::Replace);
        check("alter table khac exchange partition p with table dan", Meaning::Replace);
        check("alter table dan discard tablespace", Meaning::Replace);
        check("create unique index i on dan (a)", Meaning::Alter);
        check("create view v as select * from dan", Meaning::None);
        check("create trigger t after insert on dan for each row set @a = 1", Meaning::None);
        check("drop database `hotich`", Meaning::Replace);
        check("drop database khac", Meaning::None);
        check("insert into dan values (1, 'x')", Meaning::Statement);
        check("/* app */ update DAN set a = 'it''s' where b = \"c\"", Meaning::Statement);
        check("insert into khac values ('dan')", Meaning::None);
        check("delete khac from khac join dan", Meaning::Statement);
        check("analyze table dan", Meaning::None);
        check("# Dummy event replacing event type 160", Meaning::None);
        check("", Meaning::None);
        check("flush tables", Meaning::None);
    }

    #[test]
    fn a_name_alone_means_the_current_schema() {
        let check = |current: &str, expected: Meaning| {
            let found = meaning(b"truncate dan", current.as_bytes(), ("hotich", "dan"));
            assert_eq!(found, expected, "{current}");
        };
        check("hotich", Meaning::Truncate);
        check("khac", Meaning::None);
        check("", Meaning::None);
    }

    #[test]
    fn a_column_that_takes_the_place_of_another_is_seen() {
        let check = |text: &str, expected: bool| {
            let found = replaces_column(text.as_bytes(), ["id", "ten"].into_iter());
            assert_eq!(found, expected, "{text}");
        };
        check("alter table dan add column ten varchar(9)", true);
        check("alter table dan drop ten, add `TEN` int", true);
        check("alter table dan add column if not exists ten int", true);
        check("alter table dan add (x int, ten int)", true);
        check("alter table dan change ho ten varchar(9)", true);
        check("alter table dan rename column ho to ten, rename column ten to ho", true);
        check("alter table dan add column x int default 1 after ten", false);
        check("alter table dan add index i (ten)", false);
        check("alter table dan change ten ten text", false);
        check("alter table dan modify ten text", false);
        check("alter table dan drop column x", false);
    }
}
