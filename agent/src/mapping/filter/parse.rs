//! The text of `where` to a [`Filter`], by recursive descent.

use super::{Asks, Comparison, Condition, Filter, Literal, Test};

/// A condition longer than this is a program, and belongs into a view at the source.
const FILTER_BYTES_MAX: usize = 4_096;
/// Parentheses and `not`s inside each other; keeps the stack small.
const DEPTH_MAX: usize = 32;

/// What is wrong with a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {position}: {rule}")]
pub struct BadFilter {
    /// Which character, counted from 1.
    pub position: usize,
    /// What could stand there.
    pub rule: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name or a word of the language, as written.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    Literal(Literal),
    Comparison(Comparison),
    Open,
    Close,
    Comma,
    End,
}

pub(super) fn filter(text: &str) -> Result<Filter, BadFilter> {
    if text.len() > FILTER_BYTES_MAX {
        let rule = format!("the condition is longer than {FILTER_BYTES_MAX} bytes");
        return Err(BadFilter { position: FILTER_BYTES_MAX, rule });
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, columns: Vec::new(), depth: 0 };
    let condition = parser.either()?;
    if parser.takes(&Token::End) {
        return Ok(Filter { condition, columns: parser.columns });
    }
    Err(parser.wrong("expected `and`, `or` or the end"))
}

struct Parser {
    /// Each with the character it begins at; the last one is [`Token::End`].
    tokens: Vec<(usize, Token)>,
    next: usize,
    columns: Vec<String>,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn wrong(&self, rule: impl Into<String>) -> BadFilter {
        let last = self.tokens.last().map_or(1, |(position, _)| *position);
        let position = self.tokens.get(self.next).map_or(last, |(position, _)| *position);
        BadFilter { position, rule: rule.into() }
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn takes(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.next += usize::from(found);
        found
    }

    fn either(&mut self) -> Result<Condition<Test>, BadFilter> {
        let mut parts = vec![self.both()?];
        while self.takes_word("or") {
            parts.push(self.both()?);
        }
        Ok(one_or(parts, Condition::Or))
    }

    fn both(&mut self) -> Result<Condition<Test>, BadFilter> {
        let mut parts = vec![self.one()?];
        while self.takes_word("and") {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Condition::And))
    }

    fn one(&mut self) -> Result<Condition<Test>, BadFilter> {
        if self.depth == DEPTH_MAX {
            return Err(self.wrong(format!("more than {DEPTH_MAX} conditions inside each other")));
        }
        self.depth += 1;
        let condition = if self.takes_word("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.takes(&Token::Open) {
            let inner = self.either()?;
            if !self.takes(&Token::Close) {
                return Err(self.wrong("expected `)`, `and` or `or`"));
            }
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn test(&mut self) -> Result<Condition<Test>, BadFilter> {
        let column = self.column()?;
        if let Token::Comparison(comparison) = *self.peek() {
            self.next += 1;
            let literal = self.literal()?;
            let asks = Asks::Compare(comparison, literal);
            return Ok(Condition::Test(Test { column, asks }));
        }
        if self.takes_word("is") {
            let negated = self.takes_word("not");
            if !self.takes_word("null") {
                return Err(self.wrong("expected `null` or `not null` after `is`"));
            }
            return Ok(negate(negated, Test { column, asks: Asks::IsNull }));
        }
        let negated = self.takes_word("not");
        if self.takes_word("in") {
            let asks = Asks::In(self.list()?);
            return Ok(negate(negated, Test { column, asks }));
        }
        Err(self.wrong("expected =, <>, <, <=, >, >=, `in (…)`, `is null` or `is not null`"))
    }

    fn column(&mut self) -> Result<usize, BadFilter> {
        let (Token::Word(name) | Token::Quoted(name)) = self.peek().clone() else {
            return Err(self.wrong("expected the name of a column, `not` or `(`"));
        };
        self.next += 1;
        let known = self.columns.iter().position(|column| *column == name);
        Ok(known.unwrap_or_else(|| {
            self.columns.push(name);
            self.columns.len() - 1
        }))
    }

    fn list(&mut self) -> Result<Vec<Literal>, BadFilter> {
        if !self.takes(&Token::Open) {
            return Err(self.wrong("expected `(` after `in`"));
        }
        let mut literals = vec![self.literal()?];
        while self.takes(&Token::Comma) {
            literals.push(self.literal()?);
        }
        if self.takes(&Token::Close) {
            return Ok(literals);
        }
        Err(self.wrong("expected `,` or `)`"))
    }

    fn literal(&mut self) -> Result<Literal, BadFilter> {
        if let Token::Literal(literal) = self.peek().clone() {
            self.next += 1;
            return Ok(literal);
        }
        if self.takes_word("true") {
            return Ok(Literal::Bool(true));
        }
        if self.takes_word("false") {
            return Ok(Literal::Bool(false));
        }
        Err(self.wrong("expected 'text' in single quotes, a number, true or false"))
    }
}

fn one_or(
    mut parts: Vec<Condition<Test>>,
    join: fn(Vec<Condition<Test>>) -> Condition<Test>,
) -> Condition<Test> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn negate(negated: bool, test: Test) -> Condition<Test> {
    let test = Condition::Test(test);
    if negated { Condition::Not(Box::new(test)) } else { test }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, BadFilter> {
    let letters: Vec<char> = text.chars().collect();
    let mut rest = letters.as_slice();
    let mut tokens = Vec::new();
    loop {
        while let [' ' | '\t' | '\r' | '\n', after @ ..] = rest {
            rest = after;
        }
        let position = letters.len() - rest.len() + 1;
        let token = token(&mut rest).map_err(|rule| BadFilter { position, rule })?;
        let end = token == Token::End;
        tokens.push((position, token));
        if end {
            return Ok(tokens);
        }
    }
}

fn token(rest: &mut &[char]) -> Result<Token, String> {
    let (token, length) = match **rest {
        [] => (Token::End, 0),
        ['(', ..] => (Token::Open, 1),
        [')', ..] => (Token::Close, 1),
        [',', ..] => (Token::Comma, 1),
        ['<', '>', ..] | ['!', '=', ..] => (Token::Comparison(Comparison::NotEqual), 2),
        ['<', '=', ..] => (Token::Comparison(Comparison::LessOrEqual), 2),
        ['>', '=', ..] => (Token::Comparison(Comparison::GreaterOrEqual), 2),
        ['=', ..] => (Token::Comparison(Comparison::Equal), 1),
        ['<', ..] => (Token::Comparison(Comparison::Less), 1),
        ['>', ..] => (Token::Comparison(Comparison::Greater), 1),
        ['\'', ..] => return quoted(rest, '\'').map(|text| Token::Literal(Literal::Text(text))),
        ['"', ..] => return quoted(rest, '"').map(Token::Quoted),
        ['0'..='9', ..] | ['-', '0'..='9', ..] => return Ok(number(rest)),
        [letter, ..] if letter.is_alphabetic() || letter == '_' => {
            return Ok(Token::Word(take_while(rest, |c| c.is_alphanumeric() || c == '_')));
        }
        [letter, ..] => return Err(format!("`{letter}` has no place in a condition")),
    };
    *rest = rest.get(length..).unwrap_or_default();
    Ok(token)
}

fn number(rest: &mut &[char]) -> Token {
    let sign = take_while(rest, |c| c == '-').chars().take(1).collect::<String>();
    let digits = take_while(rest, |c| c.is_ascii_digit() || c == '.');
    Token::Literal(Literal::Number(sign + &digits))
}

fn take_while(rest: &mut &[char], belongs: impl Fn(char) -> bool) -> String {
    let length = rest.iter().take_while(|c| belongs(**c)).count();
    let (taken, after) = rest.split_at_checked(length).unwrap_or_default();
    *rest = after;
    taken.iter().collect()
}

/// The quote itself is written twice.
fn quoted(rest: &mut &[char], quote: char) -> Result<String, String> {
    let mut text = String::new();
    let mut after = rest.get(1..).unwrap_or_default();
    loop {
        match after {
            [first, second, tail @ ..] if *first == quote && *second == quote => {
                text.push(quote);
                after = tail;
            }
            [first, tail @ ..] if *first == quote => {
                *rest = tail;
                return Ok(text);
            }
            [letter, tail @ ..] => {
                text.push(*letter);
                after = tail;
            }
            [] => return Err(format!("the text that begins here lacks its closing {quote}")),
        }
    }
}
