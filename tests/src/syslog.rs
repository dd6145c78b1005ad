//! RFC 5424 as its grammar says and no looser, with the octet counting of RFC 5425.

use std::collections::BTreeMap;

/// A message that keeps to the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Facility times eight and severity.
    pub priority: u8,
    /// RFC 3339, with at most six digits of a second.
    pub time: String,
    /// Who says it.
    pub host: String,
    /// Which program.
    pub program: String,
    /// What kind of message.
    pub id: String,
    /// The values of its one element of structured data.
    pub data: BTreeMap<String, String>,
    /// What it says.
    pub text: String,
}

/// Takes one counted message from the front of `bytes`; `None` while it is not whole.
///
/// # Errors
/// What is against the grammar.
pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Message>, String> {
    let Some(blank) = bytes.iter().take(8).position(|byte| *byte == b' ') else {
        return if bytes.len() < 8 { Ok(None) } else { Err("no octet count".to_owned()) };
    };
    let count = String::from_utf8_lossy(&bytes[..blank]).into_owned();
    let length: usize = count.parse().map_err(|_| format!("no octet count: {count:?}"))?;
    if count.starts_with('0') {
        return Err(format!("an octet count begins with a digit that is not 0: {count:?}"));
    }
    if bytes.len() < blank + 1 + length {
        return Ok(None);
    }
    let message = bytes.drain(..=blank + length).skip(blank + 1).collect();
    let text = String::from_utf8(message).map_err(|_| "not UTF-8".to_owned())?;
    parse(&text).map(Some).map_err(|why| format!("{why} in {text:?}"))
}

/// One message without its count.
///
/// # Errors
/// What is against the grammar.
pub fn parse(text: &str) -> Result<Message, String> {
    let rest = text.strip_prefix('<').ok_or("no PRI")?;
    let (priority, rest) = rest.split_once(">1 ").ok_or("no PRI and version 1")?;
    let is_number = priority == "0" || !priority.starts_with('0');
    let priority = priority.parse::<u8>().ok().filter(|p| *p <= 191 && is_number).ok_or("PRI")?;
    let mut rest = rest;
    let mut word = |name: &'static str, most: usize| -> Result<String, String> {
        let (word, after) = rest.split_once(' ').ok_or(format!("no {name}"))?;
        rest = after;
        let sound = !word.is_empty() && word.len() <= most;
        let sound = sound && word.chars().all(|c| c.is_ascii_graphic());
        if sound { Ok(word.to_owned()) } else { Err(format!("{name} {word:?}")) }
    };
    let time = word("TIMESTAMP", 32)?;
    let host = word("HOSTNAME", 255)?;
    let program = word("APP-NAME", 48)?;
    let _process = word("PROCID", 128)?;
    let id = word("MSGID", 32)?;
    phusa_protocol::time::Timestamp::try_from(time.clone()).map_err(|error| error.to_string())?;
    let digits = time.split_once('.').map_or(0, |(_, part)| part.trim_end_matches('Z').len());
    if digits > 6 || !time.contains('T') {
        return Err(format!("TIMESTAMP {time:?}"));
    }
    let (data, text) = structured(rest)?;
    let text = match text {
        "" => String::new(),
        text => text.strip_prefix(' ').ok_or("no blank before MSG")?.to_owned(),
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None if text.is_ascii() => text,
        None => return Err("UTF-8 without its mark".to_owned()),
    };
    Ok(Message { priority, time, host, program, id, data, text })
}

fn structured(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    if let Some(rest) = text.strip_prefix('-') {
        return Ok((BTreeMap::new(), rest));
    }
    let rest = text.strip_prefix('[').ok_or("no STRUCTURED-DATA")?;
    let end = rest.find([' ', ']']).ok_or("no SD-ID")?;
    let (id, mut rest) = rest.split_at(end);
    let (name, number) = id.split_once('@').ok_or("an SD-ID of nobody")?;
    if !is_name(name) || number.parse::<u32>().is_err() {
        return Err(format!("SD-ID {id:?}"));
    }
    let mut data = BTreeMap::new();
    while let Some(after) = rest.strip_prefix(' ') {
        let (name, after) = after.split_once("=\"").ok_or("no PARAM-VALUE")?;
        if !is_name(name) {
            return Err(format!("PARAM-NAME {name:?}"));
        }
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().ok_or("a PARAM-VALUE without an end")? {
                (at, '"') => break at,
                (_, '\\') => match letters.next() {
                    Some((_, c @ ('"' | '\\' | ']'))) => value.push(c),
                    other => return Err(format!("escaped {other:?}")),
                },
                (_, ']') => return Err("a bare ] in a PARAM-VALUE".to_owned()),
                (_, c) => value.push(c),
            }
        };
        rest = &after[end + 1..];
        if data.insert(name.to_owned(), value).is_some() {
            return Err(format!("{name} twice"));
        }
    }
    let rest = rest.strip_prefix(']').ok_or("an element without an end")?;
    Ok((data, rest))
}

fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_graphic() && !"=]\"".contains(c);
    !name.is_empty() && name.len() <= 32 && name.chars().all(sound)
}
