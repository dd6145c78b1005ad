//! A real browser, spoken to by the protocol of its developer tools over two pipes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

/// How long a page may take to be there on a busy machine.
const LOADS_WITHIN: Duration = Duration::from_secs(30);

/// A key that does something.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    Tab,
    Enter,
}

/// One window of a headless Chromium.
pub(crate) struct Chromium {
    child: Child,
    to: File,
    from: BufReader<File>,
    next: u64,
    session: String,
    _folder: tempfile::TempDir,
}

impl Chromium {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let pipes = [path("to"), path("from")];
        assert!(Command::new("mkfifo").args(&pipes).status().unwrap().success());
        let command = format!(
            "exec chromium --headless=new --no-sandbox --disable-gpu --no-first-run --disable-sync \
             --disable-background-networking --disable-component-update --ignore-certificate-errors \
             --hide-scrollbars --user-data-dir={} --remote-debugging-pipe about:blank 3<{} 4>{}",
            path("profile"),
            pipes[0],
            pipes[1]
        );
        let child = Command::new("sh")
            .args(["-c", &command])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromium is needed: {error}"));
        let to = File::options().write(true).open(&pipes[0]).unwrap();
        let from = BufReader::new(File::open(&pipes[1]).unwrap());
        let session = String::new();
        let mut own = Self { child, to, from, next: 0, session, _folder: folder };
        let made = own.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let wanted = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = own.call("Target.attachToTarget", &wanted);
        attached["sessionId"].as_str().unwrap().clone_into(&mut own.session);
        own
    }

    /// Says something and waits for its answer; what else is told meanwhile is passed over.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert!(bytes.pop().is_some(), "the browser ended");
            let told: Value = serde_json::from_slice(&bytes).unwrap();
            if told["id"] == self.next {
                assert!(told["error"].is_null(), "{method}: {told}");
                return told["result"].clone();
            }
        }
    }

    /// A cookie of a portal; `__Host-` cookies are the only ones there.
    pub(crate) fn cookie(&mut self, url: &str, pair: &str) {
        let (name, value) = pair.split_once('=').unwrap();
        let cookie =
            json!({ "name": name, "value": value, "url": url, "path": "/", "secure": true });
        self.call("Network.setCookie", &cookie);
    }

    /// Opens a page in a window of this size.
    pub(crate) fn visit(&mut self, url: &str, (width, height): (u32, u32)) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        self.call("Page.navigate", &json!({ "url": url }));
        let there = format!(
            "document.readyState === 'complete' && location.href !== 'about:blank' && location.href.startsWith({})",
            json!(url)
        );
        self.wait(&there, LOADS_WITHIN);
    }

    /// Presses a key as a hand does.
    pub(crate) fn press(&mut self, key: Key) {
        let (name, code, text) = match key {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code,
            });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types into what has the focus.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// What an expression is worth in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "returnByValue": true });
        let found = self.call("Runtime.evaluate", &wanted);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        found["result"]["value"].clone()
    }

    /// Waits until an expression holds in the page; how long that took.
    pub(crate) fn wait(&mut self, expression: &str, within: Duration) -> Duration {
        let begun = Instant::now();
        while self.evaluate(expression) != true {
            assert!(begun.elapsed() < within, "{expression} within {within:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// The page from top to end, as a PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let wanted = json!({ "format": "png", "captureBeyondViewport": true });
        let found = self.call("Page.captureScreenshot", &wanted);
        bytes(&found)
    }

    /// The page as it is printed, as a PDF.
    pub(crate) fn print(&mut self) -> Vec<u8> {
        let found =
            self.call("Page.printToPDF", &json!({ "paperWidth": 8.27, "paperHeight": 11.69 }));
        bytes(&found)
    }
}

fn bytes(found: &Value) -> Vec<u8> {
    let text = found["data"].as_str().unwrap();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
