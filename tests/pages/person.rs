//! A person at a real browser with nothing but a keyboard: takes an invitation, and signs in.

use std::time::Duration;

use phusa_hub::accounts::totp;
use phusa_protocol::time::Timestamp;
use serde_json::json;

use crate::chromium::{Chromium, Key};

const PASSWORD: &str = "sông Hương chảy chậm";

/// How long the next page may take.
const LOADS_WITHIN: Duration = Duration::from_secs(30);

/// Takes the invitation that was printed and signs in by the keys alone.
pub(crate) fn signs_in(chromium: &mut Chromium, base: &str, name: &str, printed: &str) {
    chromium.visit(&format!("{base}/invitation"), (1366, 768));
    fill(chromium, &[("name", name), ("invitation", &invitation(printed))]);
    chromium.wait("!!document.querySelector('#password')", LOADS_WITHIN);
    let secret = chromium.evaluate("document.querySelector('code').textContent");
    let secret = totp::from_base32(secret.as_str().unwrap()).unwrap();
    let now = Timestamp::now().micros().unsigned_abs() / 1_000_000;
    let code = totp::code_at(&secret, now);
    fill(chromium, &[("password", PASSWORD), ("again", PASSWORD), ("code", &code)]);
    chromium.wait("document.querySelectorAll('main code').length === 8", LOADS_WITHIN);
    chromium.visit(&format!("{base}/login"), (1366, 768));
    // The code that was shown is used up; the next one is good already.
    let next = totp::code_at(&secret, now + 30);
    fill(chromium, &[("name", name), ("password", PASSWORD), ("code", &next)]);
    chromium.wait("location.pathname === '/fleet'", LOADS_WITHIN);
}

/// Types into each field of a form, going on by Tab until it has the focus, and sends it by Enter.
fn fill(chromium: &mut Chromium, fields: &[(&str, &str)]) {
    for (id, text) in fields {
        let has_focus = format!("document.activeElement.id === {}", json!(id));
        for _ in 0..20 {
            if chromium.evaluate(&has_focus) == true {
                break;
            }
            chromium.press(Key::Tab);
        }
        assert_eq!(chromium.evaluate(&has_focus), true, "#{id} is not reached by Tab");
        chromium.type_in(text);
    }
    chromium.press(Key::Enter);
}

fn invitation(text: &str) -> String {
    let is_one = |word: &&str| word.len() == 39 && word.matches('-').count() == 7;
    let word = text.split_whitespace().find(is_one);
    word.unwrap_or_else(|| panic!("{text}")).to_owned()
}
