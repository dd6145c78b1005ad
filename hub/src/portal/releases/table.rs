//! The tables of the page of updates.

use maud::{Markup, html};
use phusa_protocol::fault::Code;
use phusa_protocol::release::{Stage, Why};
use phusa_protocol::time::Timestamp;

use crate::portal::words::Lang;
use crate::release::online::End;
use crate::release::published::Published;
use crate::release::rollout::{Assigned, Rollout};

/// Characters of a key's name that tell keys apart for people.
const KEY_CHARACTERS: usize = 12;

pub(super) fn programs(lang: Lang, published: &Published) -> Markup {
    html! {
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Bản", "Version")) }
                th scope="col" { (lang.say("Hệ máy", "System")) }
                th scope="col" { (lang.say("Bản cũ nhất còn được chạy", "Oldest that may run")) }
                th scope="col" { (lang.say("Dung lượng", "Size")) }
                th scope="col" { "SHA-256" }
            } }
            tbody { @for one in &published.programs { tr {
                td { b { (one.version) }
                    @if one.is_too_old { " " span.tag { (lang.say("không còn được chạy", "may run no longer")) } } }
                td { (one.system) }
                td { (one.min_version) }
                td.t { (one.length.div_ceil(1 << 20)) " MiB" }
                td { code title=(one.sha256) { (short(&one.sha256)) } }
            } } }
        } }
    }
}

pub(super) fn signers(lang: Lang, published: &Published) -> Markup {
    let (root, targets) = published.thresholds;
    html! {
        p.quiet { (lang.say("Cần ", "Needed: ")) (root) (lang.say(" chữ ký cho gốc, ", " for the root, "))
            (targets) (lang.say(" cho bản phát hành. Khóa nêu bằng tên của nó trong siêu dữ liệu.",
                " for releases. A key is called by its name in the metadata.")) }
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Khóa", "Key")) }
                th scope="col" { (lang.say("Gốc", "Root")) }
                th scope="col" { (lang.say("Bản phát hành", "Releases")) }
            } }
            tbody { @for one in &published.signers { tr {
                td { code title=(one.key) { (short(&one.key)) } }
                td { (signed(lang, one.root)) }
                td { (signed(lang, one.targets)) }
            } } }
        } }
    }
}

fn signed(lang: Lang, signed: Option<bool>) -> Markup {
    let (class, vi, en) = match signed {
        None => ("", "không có quyền", "may not"),
        Some(true) => ("good", "đã ký", "signed"),
        Some(false) => ("", "không ký bản đang dùng", "did not sign what is in force"),
    };
    html! { span class={ "tag " (class) } { (lang.say(vi, en)) } }
}

pub(super) fn ends(lang: Lang, ends: &[End], now: Timestamp) -> Markup {
    let name = |role: &str| match role {
        "root" => lang.say("gốc", "root"),
        "targets" => lang.say("bản phát hành", "targets"),
        "snapshot" => lang.say("ảnh chụp, trung tâm tự ký", "snapshot, signed by the hub"),
        _ => lang.say("dấu giờ, trung tâm tự ký", "timestamp, signed by the hub"),
    };
    html! {
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Vai trò", "Role")) }
                th scope="col" { (lang.say("Phiên bản", "Version")) }
                th scope="col" { (lang.say("Hết hạn", "Ends")) }
                th scope="col" { (lang.say("Còn", "Left")) }
            } }
            tbody { @for end in ends { tr {
                td { (name(&end.role)) }
                td { (end.version) }
                td.t { (end.until.vietnamese()) }
                td { @match end.step(now) {
                    None => (days(lang, end, now)),
                    Some(step) => span.tag.bad { (days(lang, end, now)) (lang.say(", mốc ", ", step ")) (step) },
                } }
            } } }
        } }
    }
}

fn days(lang: Lang, end: &End, now: Timestamp) -> Markup {
    html! { (end.days(now)) " " (lang.say("ngày", "days")) }
}

pub(super) fn agents(lang: Lang, rollout: &Rollout) -> Markup {
    html! {
        div.scroll { table.stack {
            thead { tr {
                th scope="col" { (lang.say("Tác tử", "Agent")) }
                th scope="col" { (lang.say("Bản", "Version")) }
                th scope="col" { (lang.say("Trạng thái", "Stage")) }
                th scope="col" { (lang.say("Lý do", "Reason")) }
                th scope="col" { (lang.say("Từ lúc", "Since")) }
            } }
            tbody { @for one in &rollout.agents { tr {
                td { (one.agent) }
                td { (one.version) }
                td { (stage(lang, one)) }
                td { (reason(lang, one)) }
                td.t { (one.changed_at.vietnamese()) }
            } } }
        } }
    }
}

fn stage(lang: Lang, one: &Assigned) -> Markup {
    let found = Stage::named(&one.stage);
    let class = match found {
        Some(Stage::Committed) => "good",
        Some(Stage::RolledBack) => "bad",
        _ => "wait",
    };
    html! { span class={ "tag " (class) } {
        @match found { Some(stage) => (lang.of_pair(stage.words())), None => (one.stage) }
    } }
}

/// Why it was taken back, or what stands in its way.
fn reason(lang: Lang, one: &Assigned) -> Markup {
    let why = one.why.as_deref().map(|name| (name, Why::named(name)));
    let obstacle = one.obstacle.as_deref().map(|name| (name, Code::named(name)));
    html! {
        @if let Some((name, why)) = why {
            @match why { Some(why) => (lang.of_pair(why.words())), None => code { (name) } }
        }
        @if let Some((name, code)) = obstacle {
            @match code {
                Some(code) => (lang.say(code.words().meaning_vi, code.words().meaning_en)),
                None => code { (name) },
            }
        }
    }
}

fn short(hex: &str) -> &str {
    hex.get(..KEY_CHARACTERS).unwrap_or(hex)
}
