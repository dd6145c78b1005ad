//! What is wanted of several agents at once: chosen on the overview, asked back with what it will do, then
//! given as the very orders of `phusa-hub fleet`, each with its deadline and its entry of the log.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use phusa_protocol::deed::Action;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, AgentId, DatasetId};

use super::{seen, tag, whom};
use crate::accounts::right::Deciding;
use crate::fleet::health::Health;
use crate::fleet::orders::{self, Ending, Kind, Wanted};
use crate::incidents::closing::reason;
use crate::portal::deciding::{check, decides};
use crate::portal::form::Fields;
use crate::portal::guard::{Sent, Visitor, failed};
use crate::portal::words::Lang;
use crate::portal::{Portal, frame};

/// Datasets that one form is for; more are done in several.
const DATASETS_MAX: usize = 1_000;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Give(Kind),
    Resume,
}

impl Doing {
    /// In the order they are offered in.
    const ALL: [Self; 7] = [
        Self::Give(Kind::Pause),
        Self::Resume,
        Self::Give(Kind::Reread),
        Self::Give(Kind::Compare),
        Self::Give(Kind::Rotate),
        Self::Give(Kind::Diagnose),
        Self::Give(Kind::CheckUpdate),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Give(kind) => kind.name(),
            Self::Resume => "resume",
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Give(kind) => kind.words(),
            Self::Resume => ("Cho gửi tiếp", "Resume deliveries"),
        }
    }

    /// What comes of it.
    fn consequence(self) -> (&'static str, &'static str) {
        match self {
            Self::Give(kind) => kind.consequence(),
            Self::Resume => (
                "Việc tạm dừng đang có hiệu lực của các bộ dữ liệu này được rút lại; những gì chờ được gửi tiếp.",
                "Pauses of these datasets are taken back; what waits is delivered.",
            ),
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Give(kind) => kind.action(),
            Self::Resume => Action::FleetResume,
        }
    }

    fn is_of_dataset(self) -> bool {
        match self {
            Self::Give(kind) => kind.is_of_dataset(),
            Self::Resume => true,
        }
    }
}

/// How long an order may be chosen to be wanted.
const SPANS: [(u64, &str, &str); 4] = [
    (1, "1 giờ", "1 hour"),
    (4, "4 giờ", "4 hours"),
    (24, "1 ngày", "1 day"),
    (168, "7 ngày", "7 days"),
];

/// Whether this visitor may steer agents of an agency.
pub(super) fn steers(visitor: &Visitor, agency: &str) -> bool {
    let agency = AgencyId::new(agency).ok();
    decides(visitor, Deciding::Steer, agency.as_ref())
}

/// The box before an agent that this visitor may steer.
pub(super) fn choice(visitor: &Visitor, one: &Health) -> Markup {
    let named = format!("{} {}", visitor.lang.say("Chọn", "Choose"), one.row.agent);
    html! {
        @if steers(visitor, one.agency()) {
            input type="checkbox" name="agent" value=(one.row.agent) aria-label=(named);
        }
    }
}

/// What is done with those that were chosen.
pub(super) fn buttons(lang: Lang) -> Markup {
    html! {
        div.bulk {
            span.quiet { (lang.say("Với các tác tử đã chọn:", "With those chosen:")) }
            @for doing in Doing::ALL {
                button.plain name="do" value=(doing.name()) { (lang.of_pair(doing.words())) }
            }
        }
    }
}

/// Agent and dataset; none where it is of the agent.
type Pair = (AgentId, Option<DatasetId>);

/// `POST /fleet/orders`: asks back, and does it when it is meant.
pub(in crate::portal) async fn order(
    State(portal): State<Portal>,
    Sent(visitor, fields): Sent,
) -> Response {
    let lang = visitor.lang;
    let doing = Doing::ALL.into_iter().find(|doing| doing.name() == fields.get("do"));
    let Some(doing) = doing else { return Redirect::to("/fleet").into_response() };
    let done = async {
        let chosen = chosen(&portal, &visitor, (doing, &fields)).await?;
        let pairs = pairs(&chosen, doing);
        if pairs.is_empty() || pairs.len() > DATASETS_MAX {
            let text = lang.say(
                "Hãy chọn ít nhất một tác tử đã gửi dữ liệu, và không quá 1.000 bộ dữ liệu một lần.",
                "Choose at least one agent that has delivered something, and at most 1,000 datasets at once.",
            );
            return Ok(frame::message(lang, StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        if fields.given("meant").is_none() {
            return Ok(question(&visitor, doing, &chosen));
        }
        let because = reason(fields.get("because"))?;
        let mut outcomes = Vec::new();
        for pair in pairs {
            let told = give(&portal, &visitor, (doing, &pair), (because, &fields)).await;
            outcomes.push((pair, told));
        }
        Ok::<_, Fault>(result(&visitor, doing, &outcomes))
    };
    match done.await {
        Ok(page) => page,
        Err(fault) => failed(lang, &fault),
    }
}

/// The agents that were chosen, each of which this visitor sees and may steer.
async fn chosen(
    portal: &Portal,
    visitor: &Visitor,
    (doing, fields): (Doing, &Fields),
) -> Result<Vec<Health>, Fault> {
    let mut all = seen(portal, visitor).await?;
    let named: std::collections::BTreeSet<&str> = fields.all("agent").collect();
    all.retain(|one| named.contains(one.row.agent.as_str()));
    for one in &all {
        let agency = AgencyId::new(one.agency()).ok();
        let about = (Deciding::Steer, agency.as_ref());
        check(portal, visitor, about, doing.action()).await?;
    }
    Ok(all)
}

fn pairs(chosen: &[Health], doing: Doing) -> Vec<Pair> {
    let of = |one: &Health| {
        let Ok(agent) = AgentId::try_from(one.row.agent.clone()) else { return Vec::new() };
        if !doing.is_of_dataset() {
            return vec![(agent, None)];
        }
        let datasets = one.row.streams.iter().filter_map(|s| DatasetId::new(&*s.dataset).ok());
        datasets.map(|dataset| (agent.clone(), Some(dataset))).collect()
    };
    chosen.iter().flat_map(of).collect()
}

/// Gives or takes back one order; its number.
async fn give(
    portal: &Portal,
    visitor: &Visitor,
    (doing, (agent, dataset)): (Doing, &Pair),
    (because, fields): (&str, &Fields),
) -> Result<i64, Fault> {
    let (log, by) = (&portal.people.log, &visitor.account.name);
    let mut client = portal.people.warehouse.client().await?;
    let kind = match (doing, dataset) {
        (Doing::Give(kind), _) => kind,
        (Doing::Resume, None) => {
            return Err(Fault::new(Code::OrderRefused, "a pause is of a dataset"));
        }
        (Doing::Resume, Some(dataset)) => {
            let order = orders::pause_of(&client, agent, dataset).await?;
            let ending = Ending { by, from: Some(&visitor.address), because: Some(because) };
            orders::cancel(&mut client, log, order, ending).await?;
            return Ok(order);
        }
    };
    let hours = fields.get("hours").parse().ok();
    let hours = hours.filter(|hours| SPANS.iter().any(|(known, ..)| known == hours)).unwrap_or(4);
    let wanted = Wanted {
        agent: agent.clone(),
        dataset: dataset.clone(),
        kind,
        by: by.clone(),
        from: Some(visitor.address.clone()),
        because: because.to_owned(),
        within: Duration::from_secs(hours * 3_600),
    };
    orders::issue(&mut client, log, &wanted).await
}

fn question(visitor: &Visitor, doing: Doing, chosen: &[Health]) -> Response {
    let lang = visitor.lang;
    let title = format!("{}?", lang.of_pair(doing.words()));
    let content = html! {
        h1 { (title) }
        p.notice { (lang.of_pair(doing.consequence())) }
        form method="post" action="/fleet/orders" {
            (frame::form_token(visitor))
            input type="hidden" name="do" value=(doing.name());
            input type="hidden" name="meant" value="1";
            div.scroll { table.stack {
                thead { tr {
                    th scope="col" { (lang.say("Trạng thái", "State")) }
                    th scope="col" { (lang.say("Tác tử", "Agent")) }
                    th scope="col" { (lang.say("Bộ dữ liệu", "Datasets")) }
                    th scope="col" { (lang.say("Đầu mối", "Focal point")) }
                } }
                tbody { @for one in chosen { tr {
                    td { (tag(lang, one.verdict.state))
                        input type="hidden" name="agent" value=(one.row.agent); }
                    td { b { (one.row.agent) } }
                    td { @for stream in &one.row.streams { code { (stream.dataset) } " " }
                        @if one.row.streams.is_empty() { "–" } }
                    td { (whom(lang, one.contact.as_ref(), true)) }
                } } }
            } }
            div.card.below {
                @if doing != Doing::Resume {
                    label for="hours" { (lang.say("Trong bao lâu", "For how long")) }
                    select id="hours" name="hours" { @for (hours, vi, en) in SPANS {
                        option value=(hours) selected[hours == 4] { (lang.say(vi, en)) }
                    } }
                }
                label for="because" { (lang.say("Lý do", "Reason")) }
                input id="because" name="because" minlength="3" maxlength="500" autocomplete="off" required;
                p.act { button { (lang.of_pair(doing.words())) " (" (chosen.len()) ")" } }
                p { a href="/fleet" { (lang.say("Thôi", "Do not")) } }
            }
        }
    };
    frame::page(visitor, &title, &content)
}

fn result(visitor: &Visitor, doing: Doing, outcomes: &[(Pair, Result<i64, Fault>)]) -> Response {
    let lang = visitor.lang;
    let title = lang.of_pair(doing.words());
    let done = outcomes.iter().filter(|(_, told)| told.is_ok()).count();
    let content = html! {
        h1 { (title) }
        p.notice.done[done == outcomes.len()] role="status" {
            (done) " / " (outcomes.len())
            @if doing.is_of_dataset() { (lang.say(" bộ dữ liệu.", " datasets.")) }
            @else { (lang.say(" tác tử.", " agents.")) }
            " " (lang.say("Tác tử nhận yêu cầu khi đang kết nối, hoặc khi kết nối lại.",
                "Agents take it at once, or when they are back."))
        }
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Tác tử", "Agent")) }
                th scope="col" { (lang.say("Bộ dữ liệu", "Dataset")) }
                th scope="col" { (lang.say("Kết quả", "Result")) }
            } }
            tbody { @for ((agent, dataset), told) in outcomes { tr {
                td { (agent) }
                td { @if let Some(dataset) = dataset { code { (dataset) } } @else { "–" } }
                td { @match told {
                    Ok(order) => { span.tag.good { (lang.say("yêu cầu ", "order ")) (order) } }
                    Err(fault) => { span.tag.bad { (fault.code.name()) } " " (fault) }
                } }
            } } }
        } }
        p { a href="/fleet" { (lang.say("Về tổng quan", "To the overview")) } }
    };
    frame::page(visitor, title, &content)
}
