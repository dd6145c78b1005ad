//! People at the portal: invited, signed in, held to their rights, cut off; and what the log says.

use std::collections::BTreeMap;

use phusa_hub::accounts::totp;
use phusa_protocol::time::Timestamp;

use crate::world::World;

const PASSWORD: &str = "sông Hương chảy chậm";

/// A browser without JavaScript: one origin, one session.
pub(crate) struct Browser {
    base: String,
    client: reqwest::Client,
    cookie: String,
}

/// An answer of the portal.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) to: String,
    cookie: String,
    wait: Option<u64>,
    pub(crate) text: String,
}

impl Page {
    /// What stands between `from` and `to`.
    pub(crate) fn between(&self, from: &str, to: &str) -> String {
        let (_, rest) =
            self.text.split_once(from).unwrap_or_else(|| panic!("{from}: {}", self.text));
        rest.split_once(to).unwrap().0.to_owned()
    }
}

impl Browser {
    fn open(world: &World) -> Self {
        let (base, ca) = world.portal();
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { base, client, cookie: String::new() }
    }

    /// Where `KEEP` names a folder, these pages in both languages, to be looked at.
    pub(crate) async fn keep(&self, pages: &[(&str, &str)]) {
        let Some(folder) = std::env::var_os("KEEP") else { return };
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("style.css"), self.get("/style.css").await.text).unwrap();
        for (lang, cookie) in [("vi", ""), ("en", "; __Host-phusa-lang=en")] {
            let cookie = format!("{}{cookie}", self.cookie);
            let browser = Self { base: self.base.clone(), client: self.client.clone(), cookie };
            for (name, path) in pages {
                let text = browser.get(path).await.text.replace("/style.css", "style.css");
                std::fs::write(folder.join(format!("{name}.{lang}.html")), text).unwrap();
            }
        }
    }

    /// A page that goes on.
    pub(crate) async fn stream(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.base));
        request.header("cookie", &self.cookie).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.post_from(path, fields, Some(&self.base)).await
    }

    async fn post_from(&self, path: &str, fields: &[(&str, &str)], origin: Option<&str>) -> Page {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let request = self.client.post(format!("{}{path}", self.base)).body(form.finish());
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        self.send(request).await
    }

    /// Sends the form of a page, with the token it carries.
    pub(crate) async fn submit(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self.get(page).await.between("name=\"form\" value=\"", "\"");
        self.post(path, &[fields, &[("form", &token)]].concat()).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let answer = request.header("cookie", &self.cookie).send().await.unwrap();
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        assert!(header("content-security-policy").starts_with("default-src 'none'"));
        Page {
            status: answer.status().as_u16(),
            to: header("location"),
            cookie: header("set-cookie"),
            wait: header("retry-after").parse().ok(),
            text: answer.text().await.unwrap(),
        }
    }

    async fn log_in(&mut self, name: &str, code: &str) -> Page {
        let fields = [("name", name), ("password", PASSWORD), ("code", code)];
        let page = self.post("/login", &fields).await;
        if page.status == 303 {
            page.cookie.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        page
    }
}

fn now_seconds() -> u64 {
    Timestamp::now().micros().unsigned_abs() / 1_000_000
}

/// Takes an invitation as its holder would; the second factor and the recovery codes.
async fn activate(browser: &Browser, name: &str, invitation: &str) -> (Vec<u8>, Vec<String>) {
    let fields = [("name", name), ("invitation", invitation)];
    let page = browser.post("/invitation", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("<svg"), "the square");
    let secret = totp::from_base32(&page.between("<code>", "</code>")).unwrap();
    let code = totp::code_at(&secret, now_seconds());
    let chosen = |password: &'static str, code: String| {
        let rest = vec![("step", "2".to_owned()), ("code", code)];
        let passwords = vec![("password", password.to_owned()), ("again", password.to_owned())];
        let given = vec![("name", name.to_owned()), ("invitation", invitation.to_owned())];
        [rest, passwords, given].concat()
    };
    let post = async |fields: Vec<(&str, String)>| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post("/invitation", &fields).await
    };
    assert!(post(chosen("ngắn", code.clone())).await.text.contains("12 đến 128"));
    let done = post(chosen(PASSWORD, code.clone())).await;
    let codes: Vec<String> =
        done.text.split("<code>").skip(1).map(|part| part[..19].to_owned()).collect();
    assert_eq!(codes.len(), 8, "{}", done.text);
    assert_eq!(post(chosen(PASSWORD, code)).await.status, 403, "an invitation is good once");
    (secret, codes)
}

fn invitation(text: &str) -> String {
    let word =
        text.split_whitespace().find(|word| word.len() == 39 && word.matches('-').count() == 7);
    word.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Makes an account through the portal and takes it; a browser signed in as its holder.
pub(crate) async fn hire(
    world: &World,
    by: &Browser,
    (name, role, agency): (&str, &str, &str),
) -> (Browser, Vec<String>) {
    let fields = [("name", name), ("title", "Người thử"), ("role", role), ("agency", agency)];
    let made = by.submit("/accounts/new", "/accounts/new", &fields).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let mut browser = Browser::open(world);
    let (_, mut codes) =
        activate(&browser, name, &made.between("<pre class=\"code\">", "</pre>")).await;
    let page = browser.log_in(name, &codes.pop().unwrap()).await;
    assert_eq!(page.status, 303, "{}", page.text);
    (browser, codes)
}

pub(crate) async fn first(world: &World) -> (Browser, Vec<String>) {
    let made =
        world.run(&["account", "create", "--first", "an.nguyen", "--title", "Nguyễn Văn An"]);
    let again = ["account", "create", "--first", "binh.tran", "--title", "Trần Thị Bình"];
    assert!(world.run_and_fail(&again).1.contains("account_invalid"));
    let mut browser = Browser::open(world);
    assert_eq!(browser.get("/transfers").await.to, "/login");
    let (secret, codes) = activate(&browser, "an.nguyen", &invitation(&made)).await;
    // The code that was shown is used up; the next one is good already.
    let code = totp::code_at(&secret, now_seconds() + 30);
    let page = browser.log_in("an.nguyen", &code).await;
    assert_eq!((page.status, page.to.as_str()), (303, "/"), "{}", page.text);
    for word in ["__Host-phusa=", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(page.cookie.contains(word), "{}", page.cookie);
    }
    let mut other = Browser::open(world);
    assert_eq!(other.log_in("an.nguyen", &code).await.status, 403, "a code is good once");
    (browser, codes)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_do_what_their_tier_allows_and_all_of_it_stands_in_the_log() {
    let world = World::start().await;
    let (an, _) = first(&world).await;
    assert!(an.get("/accounts").await.text.contains("an.nguyen"));
    let (unit, _) = hire(&world, &an, ("h57-12.it", "unit_admin", "H57.12")).await;
    let (inspector, _) = hire(&world, &an, ("thanh.tra", "inspector", "")).await;
    let (sector, _) = hire(&world, &unit, ("dan.cu", "sector_manager", "")).await;

    let create = async |by: &Browser, role: &str, agency: &str| {
        let page =
            if by.get("/accounts/new").await.status == 200 { "/accounts/new" } else { "/own" };
        let fields = [("name", "ai.do"), ("title", "Ai"), ("role", role), ("agency", agency)];
        by.submit(page, "/accounts/new", &fields).await.status
    };
    let tries = [
        (&an, "general_admin", "", 403),
        (&an, "sector_manager", "H57.12", 403),
        (&unit, "unit_admin", "H57.12", 403),
        (&unit, "sector_manager", "H57.13", 403),
        (&unit, "inspector", "", 403),
        (&sector, "consumer", "H57.12", 403),
        (&inspector, "consumer", "H57.12", 403),
    ];
    for (by, role, agency, expected) in tries {
        assert_eq!(create(by, role, agency).await, expected, "{role} {agency}");
    }
    let kill = async |by: &Browser| {
        by.submit("/own", "/accounts/h57-12.it", &[("do", "kill")]).await.status
    };
    assert_eq!((kill(&inspector).await, kill(&sector).await), (403, 404));
    assert_eq!(sector.get("/accounts/an.nguyen").await.status, 404);
    assert_eq!(unit.get("/accounts/an.nguyen").await.status, 404);
    assert_eq!(inspector.get("/accounts/an.nguyen").await.status, 200);

    let seen = inspector.get("/transfers?kind=operator").await.text;
    for word in ["Lập tài khoản", "Đăng nhập", "an.nguyen", "Nhật ký truyền nhận"] {
        assert!(seen.contains(word), "{word}");
    }
    assert!(!unit.get("/transfers").await.text.contains("an.nguyen"), "of the own unit alone");
    world.log_verify();
    let denied = "select count(*) = 8 from phusa.transfers where kind = 'operator' \
                  and entry::json->'deed'->>'denied' = 'right'";
    assert!(world.ask(denied).await, "each of these tries is an entry");
    let silent = format!(
        "select not exists (select from phusa.transfers where entry like '%{PASSWORD}%' \
         or entry like '%Nguyễn Văn An%')"
    );
    assert!(world.ask(&silent).await);
    keep_for_looking(&an, &unit).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_fails_learns_nothing_and_waits_and_forms_of_other_sites_are_not_taken() {
    let world = World::start().await;
    let (an, codes) = first(&world).await;
    let mut stranger = Browser::open(&world);
    let unknown = stranger.log_in("khong.co", "123456").await;
    let wrong = stranger.log_in("an.nguyen", "123456").await;
    assert_eq!((unknown.status, unknown.text), (wrong.status, wrong.text), "the same words");

    let token = an.get("/own").await.between("name=\"form\" value=\"", "\"");
    let lost = async |fields: &[(&str, &str)], origin: Option<&str>| {
        an.post_from("/own/lost", fields, origin).await.status
    };
    assert_eq!(lost(&[("form", &token)], None).await, 403);
    assert_eq!(lost(&[("form", &token)], Some("https://evil.example")).await, 403);
    assert_eq!(lost(&[("form", "x")], Some(&an.base)).await, 403);
    assert_eq!(an.get("/own").await.status, 200, "nothing of it was done");

    let slowed = async {
        loop {
            let page = stranger.log_in("an.nguyen", "000000").await;
            assert!(matches!(page.status, 403 | 429), "{}", page.status);
            if page.wait >= Some(4) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), slowed).await.unwrap();
    let right = stranger.log_in("an.nguyen", &codes[0]).await;
    assert_eq!(right.status, 429, "even a right one waits");
    let told = "select exists (select from phusa.transfers \
                where entry::json->'deed'->>'denied' = 'rate_limit')";
    assert!(world.ask(told).await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_once_when_another_process_or_its_holder_ends_it() {
    let world = World::start().await;
    let (mut an, mut codes) = first(&world).await;
    let ended = async |browser: &Browser| {
        let begun = std::time::Instant::now();
        let page = browser.get("/own").await;
        assert!(begun.elapsed().as_secs() < 5);
        page.to == "/login"
    };
    for command in ["kill", "lock"] {
        assert!(!ended(&an).await);
        assert!(world.run(&["account", command, "an.nguyen"]).contains("1 phiên"));
        assert!(ended(&an).await, "{command}");
        if command == "kill" {
            let page = an.log_in("an.nguyen", &codes.pop().unwrap()).await;
            assert_eq!(page.status, 303, "{}", page.text);
        }
    }
    let code = codes.pop().unwrap();
    assert_eq!(an.log_in("an.nguyen", &code).await.status, 403, "locked");
    world.run(&["account", "unlock", "an.nguyen"]);
    assert_eq!(an.log_in("an.nguyen", &code).await.status, 303);
    assert_eq!(an.submit("/own", "/own/lost", &[]).await.to, "/login");
    assert!(ended(&an).await, "lost");
    let shown = world.run(&["account", "show", "an.nguyen", "--json"]);
    let shown: BTreeMap<String, serde_json::Value> = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["locked_by"], &shown["sessions"]), (&"an.nguyen".into(), &0.into()));
    let again = world.run(&["account", "reset", "an.nguyen"]);
    activate(&Browser::open(&world), "an.nguyen", &invitation(&again)).await;
    world.stop().await;
}

/// For a person who wants to look at them: `KEEP=folder`.
async fn keep_for_looking(an: &Browser, unit: &Browser) {
    let pages = [
        ("login", "/login"),
        ("invitation", "/invitation"),
        ("own", "/own"),
        ("accounts", "/accounts"),
        ("account", "/accounts/h57-12.it"),
        ("new", "/accounts/new"),
        ("transfers", "/transfers"),
        ("entry", "/transfers/1"),
    ];
    an.keep(&pages).await;
    unit.keep(&[("unit-new", "/accounts/new")]).await;
}
