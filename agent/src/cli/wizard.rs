//! `phusa-agent wizard`: from an empty folder to files that are checked, by questions a person can
//! answer who is no programmer. It reads the catalogue and a small sample of rows, writes nothing at
//! the source and sends nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use phusa_protocol::contract::Contract;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;

use super::columns;
use super::draft::{self, Draft};
use crate::config::plan::Plan;
use crate::pipeline::wiring;
use crate::source::any::AnySource;
use crate::source::{Listed, Source as _};

mod words;
mod screen;
mod files;
mod hub;
mod database;
mod tables;
mod fields;
mod finish;

use database::Database;
use fields::Looked;
use screen::{Asked, Leave, Screen};
use tables::Agreed;

pub(super) use words::Lang;

/// Arguments of `wizard`.
#[derive(Debug, clap::Args)]
pub(super) struct Wizard {
    /// Thư mục để ghi các tệp · the folder for the files.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Ngôn ngữ · the language.
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// Tệp câu trả lời, không hỏi gì · answers from a file, nothing is asked.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

/// What was found at the source, so that going back does not look again.
#[derive(Debug, Default)]
struct Desk {
    listed: Option<(Database, Vec<Listed>)>,
    looked: Vec<(Database, Looked)>,
}

/// Asks, writes, checks.
pub(super) async fn wizard(wanted: &Wizard) -> Result<ExitCode, Fault> {
    let unusable = |error| Fault::because(Code::DiskFailed, "cannot use the folder", error);
    let folder = std::path::absolute(&wanted.dir).map_err(unusable)?;
    files::folder(&folder)?;
    let folder = folder.canonicalize().map_err(unusable)?;
    let kept = folder.join("wizard.toml");
    let mut screen = Screen::open(wanted.lang, &kept, wanted.answers.as_deref())?;
    let mut desk = Desk::default();
    let kept_before = screen.answers();
    let mut is_first = true;
    loop {
        screen.begin();
        if is_first {
            greet(&mut screen, kept_before);
        }
        is_first = false;
        match Box::pin(walk(&mut screen, &mut desk, &folder)).await {
            Ok(code) => return Ok(code),
            Err(Leave::Back) => {}
            Err(Leave::Fault(fault)) => return Err(fault),
            Err(Leave::Quit) => {
                screen.line("");
                screen.say(
                    "Đã giữ các câu trả lời. Chạy lại lệnh này để đi tiếp.",
                    "Your answers are kept. Run this command again to go on.",
                );
                screen.show();
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn greet(screen: &mut Screen, kept: usize) {
    screen.say(
        "Phù Sa: chuẩn bị tác tử. Không ghi gì vào cơ sở dữ liệu, không gửi gì đi.",
        "Phù Sa: preparing an agent. Nothing is written to the database, nothing is sent.",
    );
    screen.say(
        "Enter nhận câu trả lời trong [ ]; < quay lại; q nghỉ, làm tiếp sau.",
        "Enter takes the answer in [ ]; < goes back; q leaves, to go on later.",
    );
    if kept > 0 {
        screen.say(
            &format!("Đi tiếp từ chỗ đã dừng: {kept} câu trả lời được giữ."),
            &format!("Going on where you stopped: {kept} answers are kept."),
        );
    }
    screen.line("");
    if !screen.is_scripted() {
        screen.show();
    }
}

/// One walk through all questions.
async fn walk(screen: &mut Screen, desk: &mut Desk, folder: &Path) -> Asked<ExitCode> {
    let sides = hub::ask(screen, folder)?;
    let database = database::ask(screen, folder)?;
    let config = folder.join("agent.toml");
    put(screen, &config, &database::agent_toml(&sides, &database, folder))?;
    let plan = plan(screen, &config)?;
    let source = wiring::source(&plan)?;
    let listed = connect(screen, desk, (&plan, &source), &database).await?;
    let chosen = tables::choose(screen, &listed)?;
    let agreed = tables::contracts(screen, folder, &sides.keys)?;
    let mut settled: Vec<(&Agreed, Looked, Vec<Draft>)> = Vec::new();
    for listed in chosen.iter().filter_map(|at| listed.get(*at)) {
        let of = agreed.first().map(|agreed| agreed.contract.dataset.clone());
        let Some(of) = of else { continue };
        let looked = look(desk, (&source, &of), &database, &tables::name(listed)).await?;
        unread(screen, &plan, &looked);
        let taken: Vec<&Contract> = settled.iter().map(|(agreed, ..)| &agreed.contract).collect();
        let place = (looked.table.as_str(), looked.columns.as_slice());
        let agreed = tables::contract(screen, &agreed, place, &taken)?;
        let drafts = fields::settle(screen, &agreed.contract, &looked)?;
        fields::confirm(screen, &agreed.contract, &looked, &drafts)?;
        settled.push((agreed, looked, drafts));
    }
    for (agreed, looked, drafts) in &settled {
        write(screen, folder, agreed, (looked, drafts))?;
    }
    finish::finish(screen, &config).await
}

/// The plan without datasets; what is wrong with the file is shown until it is mended.
fn plan(screen: &mut Screen, config: &Path) -> Asked<Plan> {
    loop {
        match Plan::load_without_datasets(config) {
            Ok(plan) => return Ok(plan),
            Err(faults) => finish::mend(screen, &faults)?,
        }
    }
}

/// Lists the tables, trying again until the server answers.
async fn connect(
    screen: &mut Screen,
    desk: &mut Desk,
    (plan, source): (&Plan, &AnySource),
    database: &Database,
) -> Asked<Vec<Listed>> {
    if let Some((_, listed)) = desk.listed.as_ref().filter(|(of, _)| of == database) {
        return Ok(listed.clone());
    }
    loop {
        let found = source.tables().await;
        match found {
            Ok(listed) if !listed.is_empty() => {
                desk.listed = Some((database.clone(), listed.clone()));
                return Ok(listed);
            }
            Ok(_) => screen.say(
                "Kết nối được, nhưng tài khoản không thấy bảng nào.",
                "Connected, but the login sees no table.",
            ),
            Err(fault) => {
                screen.fault(&fault);
                if !matches!(fault.code, Code::SourceLogin | Code::SourceRights) {
                    finish::again(screen, &[fault])?;
                    continue;
                }
            }
        }
        screen.say("Nhờ quản trị cơ sở dữ liệu chạy:", "For the database administrator to run:");
        database::first_statements(plan).iter().for_each(|line| screen.line(&format!("  {line}")));
        finish::again(screen, &[])?;
    }
}

/// Looks at a table once for each database.
async fn look(
    desk: &mut Desk,
    (source, of): (&AnySource, &DatasetId),
    database: &Database,
    table: &str,
) -> Asked<Looked> {
    let known = desk.looked.iter().find(|(at, looked)| at == database && looked.table == table);
    if let Some((_, looked)) = known {
        return Ok(looked.clone());
    }
    let columns = columns::columns(source, of, table).await?;
    let (evidence, unread) = match columns::evidence(source, of, table, &columns).await {
        Ok(evidence) => (evidence, None),
        Err(fault) => (Vec::new(), Some(fault.code)),
    };
    let looked = Looked { table: table.to_owned(), columns, evidence, unread };
    desk.looked.push((database.clone(), looked.clone()));
    Ok(looked)
}

/// Says where rows could not be looked at, and what would let them be.
fn unread(screen: &mut Screen, plan: &Plan, looked: &Looked) {
    let Some(code) = looked.unread else { return };
    let (table, words) = (&looked.table, code.words());
    screen.say(
        &format!("{table}: chỉ đề xuất theo tên và kiểu, chưa xem được giá trị ({}).", words.name),
        &format!("{table}: proposals by names and types alone, values not seen ({}).", words.name),
    );
    if code == Code::SourceRights {
        screen.say("Muốn xem, quản trị chạy:", "To let it look, the administrator runs:");
        let statements = database::look_statements(plan, table);
        statements.iter().for_each(|line| screen.line(&format!("  {line}")));
    }
}

/// Writes a dataset's file, its contract, and the key of its pseudonyms.
fn write(
    screen: &mut Screen,
    folder: &Path,
    agreed: &Agreed,
    (looked, drafts): (&Looked, &[Draft]),
) -> Asked<()> {
    let name = format!("{}.toml", agreed.contract.dataset);
    for part in ["contracts", "datasets"] {
        files::folder(&folder.join(part))?;
    }
    let contract = folder.join("contracts").join(&name);
    if agreed.file != contract && agreed.file.canonicalize().ok() != contract.canonicalize().ok() {
        let unreadable = |error| {
            let what = format!("cannot read {}", agreed.file.display());
            Fault::because(Code::ContractInvalid, what, error)
        };
        let text = std::fs::read_to_string(&agreed.file).map_err(unreadable)?;
        files::write(&contract, &text, 0o644)?;
    }
    let head = [
        "# Do `phusa-agent wizard` lập; cột không nêu ở đây không được đọc. Quy tắc: docs/MAPPING.md.",
        "# Made by `phusa-agent wizard`; a column not named here is not read. Rules: docs/MAPPING.md.",
    ];
    let path = format!("../contracts/{name}");
    let table = (looked.table.as_str(), looked.columns.as_slice());
    let text = draft::file(&head, (&agreed.contract, &path), table, drafts);
    put(screen, &folder.join("datasets").join(&name), &text)?;
    let is_pseudonym =
        |draft: &Draft| draft.mask.as_ref().is_some_and(|mask| mask.contains("hmac"));
    if drafts.iter().any(is_pseudonym) && files::pseudonym_key(&folder.join("hmac.key"))? {
        screen.say(
            "Đã tạo hmac.key: khóa tạo mã giả. Giữ kín, sao lưu; tỉnh không có khóa này.",
            "Made hmac.key, the key of pseudonyms. Keep it secret and safe; the province has it not.",
        );
    }
    Ok(())
}

fn put(screen: &mut Screen, file: &Path, text: &str) -> Result<(), Fault> {
    if let Some(aside) = files::put(file, text)? {
        let (file, aside) = (file.display(), aside.display());
        screen.say(
            &format!("Bản bạn đã sửa của {file} được giữ ở {aside}"),
            &format!("Your version of {file} is kept in {aside}"),
        );
    }
    Ok(())
}
