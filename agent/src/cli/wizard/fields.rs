//! Which column becomes which field: what is sure is taken, what is not is asked, with the score and
//! why. Values are never shown; their shapes are.

use phusa_protocol::contract::{Class, Contract, ContractField};
use phusa_protocol::fault::Code;

use super::super::draft::Draft;
use super::screen::{Asked, Leave, NoAnswer, Question, Screen};
use super::words::{Lang, fit};
use crate::mapping::decode::Encoding;
use crate::mapping::evidence::Evidence;
use crate::mapping::propose::{Bridge, Proposal, SURE, Sureness, judge, propose};
use crate::source::Column;

/// Columns offered for one field.
const OFFERED: usize = 9;
/// So many words that are not plain ASCII say something of an encoding.
const WORDS_MIN: usize = 20;

/// A table as it was looked at.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    /// `schema.table`.
    pub(super) table: String,
    pub(super) columns: Vec<Column>,
    /// Of the columns in order; empty where rows could not be looked at.
    pub(super) evidence: Vec<Evidence>,
    /// Why rows could not be looked at.
    pub(super) unread: Option<Code>,
}

/// Settles the fields of one contract.
pub(super) fn settle(
    screen: &mut Screen,
    contract: &Contract,
    looked: &Looked,
) -> Asked<Vec<Draft>> {
    let proposals = propose(contract, &looked.columns, &looked.evidence);
    let mut drafts: Vec<Draft> = Vec::new();
    for (index, field) in contract.fields.iter().enumerate() {
        let proposal = proposals.iter().find(|proposal| proposal.field == index);
        let again = screen.is_noted(&again(contract, &field.name));
        let is_sure = |proposal: &&Proposal| {
            proposal.sureness >= SURE && proposal.conversion != Bridge::None && !again
        };
        let nullable = contract.is_nullable(index);
        let column = match proposal.filter(is_sure) {
            Some(sure) => Some(sure.column),
            // Nothing seems to be it, and nothing has to.
            None if proposal.is_none() && nullable && !again => None,
            None => ask_column(screen, (contract, index), looked, (proposal, &drafts))?,
        };
        let Some(place) = column else { continue };
        let Some(found) = looked.columns.get(place) else { continue };
        let evidence = looked.evidence.get(place);
        let judged = judge((field, nullable), found, evidence);
        let judged = Proposal { field: index, column: place, ..judged };
        let Some(mut draft) = Draft::new(contract, &judged, found, evidence) else { continue };
        draft.doubt = None;
        draft.mask = draft.mask.map(|mask| mask.replace("hmac.key", "../hmac.key"));
        if draft.convert_doubt.is_some() {
            draft.convert = Some(ask_convert(screen, contract, field, (found, evidence))?);
            draft.convert_doubt = None;
        }
        if let Some(evidence) = evidence {
            draft.encoding = ask_encoding(screen, contract, field, (found, evidence))?;
        }
        drafts.push(draft);
    }
    Ok(drafts)
}

/// The note that a field is to be asked about, sure or not.
fn again(contract: &Contract, field: &str) -> String {
    format!("again.{}.{field}", contract.dataset)
}

/// Asks which column a field is.
fn ask_column(
    screen: &mut Screen,
    (contract, index): (&Contract, usize),
    looked: &Looked,
    (proposal, drafts): (Option<&Proposal>, &[Draft]),
) -> Asked<Option<usize>> {
    let lang = screen.lang();
    let Some(field) = contract.fields.get(index) else { return Ok(None) };
    let nullable = contract.is_nullable(index);
    let mut offers = offers((field, nullable), looked, drafts);
    offers.truncate(OFFERED);
    let must = if nullable { String::new() } else { lang.short(" — bắt buộc", "required") };
    screen.line(&format!("── {} ({}) {}{must}", field.name, field.kind, title(lang, field)));
    match proposal {
        Some(_) => screen.say("Chưa chắc cột nào:", "Not sure which column:"),
        None => screen.say("Không thấy cột nào giống:", "No column seems to be it:"),
    }
    for (number, (place, offer)) in offers.iter().enumerate() {
        let Some(column) = looked.columns.get(*place) else { continue };
        screen.line(&format!(
            "{:>3} {} {} {:>3}",
            number + 1,
            fit(&column.name, 24),
            fit(&column.type_name, 18),
            offer.sureness
        ));
        screen.line(&super::words::wrapped(&why(lang, offer, looked.evidence.get(*place))));
    }
    if nullable {
        screen.say("  0 không gửi trường này (rỗng)", "0 send nothing (null)");
    }
    let key = format!("field.{}.{}", contract.dataset, field.name);
    let question = Question::new(key, "Cột (số hoặc tên)", "Column (number or name)");
    let best = proposal.and_then(|proposal| looked.columns.get(proposal.column));
    let question = match best {
        Some(best) => question.or(best.name.clone()),
        None if nullable => question.or("0"),
        None => question,
    };
    screen.ask(&question, |text| {
        if text == "0" && nullable {
            return Ok(None);
        }
        let number = text.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let by_number = number.and_then(|number| offers.get(number)).map(|(place, _)| *place);
        let by_name = || looked.columns.iter().position(|column| column.name == text);
        let place = by_number.or_else(by_name).ok_or_else(|| no_column(text))?;
        usable((field, nullable), looked, place).map(Some)
    })
}

fn no_column(text: &str) -> NoAnswer {
    (format!("bảng không có cột {text}"), format!("the table has no column {text}"))
}

/// The column, where its type becomes the field's.
fn usable(field: (&ContractField, bool), looked: &Looked, place: usize) -> Result<usize, NoAnswer> {
    let column = looked.columns.get(place).ok_or_else(|| no_column(""))?;
    let judged = judge(field, column, None);
    if judged.conversion == Bridge::None {
        let (from, to) = (&column.type_name, field.0.kind);
        return Err((
            format!("{from} không thành {to} được; chọn cột khác"),
            format!("{from} does not become {to}; choose another"),
        ));
    }
    Ok(place)
}

/// Every column that is free, likeliest first.
fn offers(
    field: (&ContractField, bool),
    looked: &Looked,
    drafts: &[Draft],
) -> Vec<(usize, Proposal)> {
    let is_free = |(place, _): &(usize, &Column)| !drafts.iter().any(|d| d.column == *place);
    let judged = |(place, column): (usize, &Column)| {
        (place, judge(field, column, looked.evidence.get(place)))
    };
    let mut offers: Vec<(usize, Proposal)> =
        looked.columns.iter().enumerate().filter(is_free).map(judged).collect();
    offers.retain(|(_, offer)| offer.conversion != Bridge::None);
    offers.sort_by_key(|(_, offer)| std::cmp::Reverse::<Sureness>(offer.sureness));
    offers
}

fn title(lang: Lang, field: &ContractField) -> String {
    match field.name_en.as_str() {
        "" => field.name_vi.clone(),
        english => lang.short(&field.name_vi, english),
    }
}

/// Why, and how the values look.
fn why(lang: Lang, offer: &Proposal, evidence: Option<&Evidence>) -> String {
    let reasons: Vec<String> = offer.reasons.iter().map(|reason| lang.reason(reason)).collect();
    let mut line = format!("      {}", reasons.join("; "));
    if let Some(evidence) = evidence.filter(|evidence| evidence.values() > 0) {
        let shapes: Vec<String> = evidence
            .shapes(2)
            .into_iter()
            .map(|(shape, percent)| format!("{shape} {percent}%"))
            .collect();
        let sep = if reasons.is_empty() { "" } else { "; " };
        line.push_str(&format!("{sep}{}: {}", lang.short("dạng", "shapes"), shapes.join(", ")));
    }
    line
}

/// Asks how the source writes a date, a number, yes and no.
fn ask_convert(
    screen: &mut Screen,
    contract: &Contract,
    field: &ContractField,
    (column, evidence): (&Column, Option<&Evidence>),
) -> Asked<String> {
    use phusa_protocol::value::Kind;
    let lang = screen.lang();
    screen.line(&format!("── {} ← {} ({})", field.name, column.name, column.type_name));
    if let Some(evidence) = evidence.filter(|evidence| evidence.values() > 0) {
        let shapes = evidence.shapes(4).into_iter();
        let shapes: Vec<String> = shapes.map(|(shape, n)| format!("{shape} {n}%")).collect();
        let head = lang.short("dạng của giá trị", "shapes of its values");
        screen.line(&super::words::wrapped(&format!("   {head}: {}", shapes.join(", "))));
    }
    let key = format!("convert.{}.{}", contract.dataset, field.name);
    if matches!(field.kind, Kind::Date | Kind::Timestamp) {
        let names = "dd/MM/yyyy yyyyMMdd yyyy-MM-dd excel";
        screen.line(&format!("   {names}"));
        let (vi, en) =
            ("Ngày được viết thế nào (một hay nhiều cách)", "How dates are written (one or more)");
        let question = Question::new(key, vi, en).or("dd/MM/yyyy yyyy-MM-dd");
        screen.ask(&question, |text| date_formats(text, field))
    } else if field.kind == Kind::Bool {
        let (vi, en) =
            ("Có/không được viết thế nào, ví dụ 1 0", "How yes and no are written, such as 1 0");
        screen.ask(&Question::new(key, vi, en).or("1 0"), |text| match text.split_once(' ') {
            Some((yes, no)) => {
                Ok(format!("{{ bool = {{ yes = [{yes:?}], no = [{:?}] }} }}", no.trim()))
            }
            None => Err(("cần hai từ".to_owned(), "two words are needed".to_owned())),
        })
    } else {
        let (vi, en) = (
            "Dấu thập phân: comma (1.234,5) hay point (1,234.5)",
            "Decimal sign: comma (1.234,5) or point (1,234.5)",
        );
        screen.ask(&Question::new(key, vi, en).or("comma"), |text| match text {
            "comma" | "point" => Ok(format!("{{ number = {text:?} }}")),
            _ => Err(("comma hoặc point".to_owned(), "comma or point".to_owned())),
        })
    }
}

fn date_formats(text: &str, field: &ContractField) -> Result<String, NoAnswer> {
    use crate::mapping::format::DateFormat;
    let mut names = Vec::new();
    for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
        let known = DateFormat::ALL.into_iter().find(|format| format.name() == part);
        let fits = known.is_some_and(|format| format.fits(field.kind));
        if !fits {
            return Err((
                format!("{part} không dùng cho {}", field.kind),
                format!("{part} is no way for {}", field.kind),
            ));
        }
        names.push(format!("{part:?}"));
    }
    if names.is_empty() {
        return Err(("cần ít nhất một cách".to_owned(), "at least one way is needed".to_owned()));
    }
    Ok(format!("{{ date = [{}] }}", names.join(", ")))
}

/// Asks for the encoding where the sample is not plainly Unicode: the score is shown, never assumed.
fn ask_encoding(
    screen: &mut Screen,
    contract: &Contract,
    field: &ContractField,
    (column, evidence): (&Column, &Evidence),
) -> Asked<Option<String>> {
    let found = evidence.encoding();
    let is_unicode = found.clear == Some(Encoding::Utf8);
    if column.native != crate::source::Native::Text || is_unicode || found.words < WORDS_MIN {
        return Ok(None);
    }
    let scores = crate::pipeline::sample::words(&found);
    screen.line(&format!("── {} ← {} ({})", field.name, column.name, column.type_name));
    screen.say("Chữ không giống Unicode; điểm của từng bảng mã:", "Not Unicode, it seems; scores:");
    screen.line(&format!("   {scores}"));
    let key = format!("encoding.{}.{}", contract.dataset, field.name);
    let names: Vec<&str> = Encoding::ALL.into_iter().map(Encoding::name).collect();
    let names = names.join(" ");
    let (vi, en) = (format!("Bảng mã ({names})"), format!("Encoding ({names})"));
    let best = found.clear.map_or("utf8", Encoding::name);
    screen.ask(&Question::new(key, &vi, &en).or(best), |text| {
        match Encoding::ALL.into_iter().find(|encoding| encoding.name() == text) {
            Some(Encoding::Utf8) => Ok(None),
            Some(encoding) => Ok(Some(encoding.name().to_owned())),
            None => {
                Err((format!("không có bảng mã {text}"), format!("there is no encoding {text}")))
            }
        }
    })
}

/// Shows what was settled, and asks whether it is to be written.
pub(super) fn confirm(
    screen: &mut Screen,
    contract: &Contract,
    looked: &Looked,
    drafts: &[Draft],
) -> Asked<()> {
    let lang = screen.lang();
    screen.line(&format!("── {} ← {}", contract.dataset, looked.table));
    for draft in drafts {
        let fields = contract.fields.get(draft.field).zip(looked.columns.get(draft.column));
        let Some((field, column)) = fields else { continue };
        let rules = [&draft.encoding, &draft.convert, &draft.mask];
        let rules: Vec<String> = rules.into_iter().flatten().map(|rule| plain(rule)).collect();
        let basis = matches!(field.class, Class::X) && draft.mask.is_none();
        let basis = if basis { "!" } else { " " };
        let line = format!(
            " {:?}{basis} {} ← {} {}",
            field.class,
            fit(&field.name, 24),
            fit(&column.name, 20),
            fit(&rules.join(", "), 26)
        );
        screen.line(line.trim_end());
    }
    let nulls = contract.fields.len() - drafts.len();
    let stay = looked.columns.len() - drafts.len();
    screen.say(
        &format!("{nulls} trường gửi rỗng; {stay} cột ở lại đây, không được đọc."),
        &format!("{nulls} fields are sent as null; {stay} columns stay here and are not read."),
    );
    screen.line(&lang.of(
        "P công khai, I nội bộ, B cá nhân, X nhạy cảm, N định danh",
        "P public, I internal, B personal, X sensitive, N identifier",
    ));
    let key = format!("write.{}", contract.dataset);
    let question = Question::new(
        key.as_str(),
        "Ghi? (y ghi; tên trường: hỏi lại trường đó; < quay lại)",
        "Write it? (y writes; a field's name asks about it again; < goes back)",
    );
    let field = screen.ask(&question.or("y"), |text| match text {
        "y" | "yes" | "c" | "có" | "co" => Ok(None),
        name if contract.fields.iter().any(|field| field.name == name) => Ok(Some(name.to_owned())),
        _ => Err(("không có trường này".to_owned(), "there is no such field".to_owned())),
    })?;
    match field {
        None => Ok(()),
        Some(field) => {
            screen.forget(&key);
            screen.forget(&format!("field.{}.{field}", contract.dataset));
            screen.note(&again(contract, &field))?;
            Err(Leave::Back)
        }
    }
}

/// A rule as a person reads it: without the file's signs.
fn plain(rule: &str) -> String {
    rule.replace(['{', '}', '"', '[', ']'], "")
        .replace("../", "")
        .replace(" = ", " ")
        .trim()
        .to_owned()
}
