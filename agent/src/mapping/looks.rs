//! What a column seems to hold, by its name and by its values: data of persons that is shared as if
//! it were not. Counts and kinds come out, never a value.

use super::ids;
use super::syllable::{folded, is_person_name};

/// What a value or a name may give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// A citizen id.
    CitizenId,
    /// A telephone number.
    Phone,
    /// An e-mail address.
    Email,
    /// The name of a person.
    PersonName,
    /// Health, religion, descent, belief or conviction.
    Sensitive,
    /// Something else of a person (a birthday, an address), by its name.
    Personal,
}

impl Look {
    /// Every kind, in order.
    pub const ALL: [Self; 6] = [
        Self::CitizenId,
        Self::Phone,
        Self::Email,
        Self::PersonName,
        Self::Sensitive,
        Self::Personal,
    ];

    /// What it is called, in Vietnamese and English.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::CitizenId => "số định danh cá nhân · citizen ids",
            Self::Phone => "số điện thoại · telephone numbers",
            Self::Email => "thư điện tử · e-mail addresses",
            Self::PersonName => "họ tên người · names of persons",
            Self::Sensitive => "dữ liệu nhạy cảm (sức khỏe, tôn giáo …) · sensitive data",
            Self::Personal => "dữ liệu cá nhân · personal data",
        }
    }
}

/// How many values of a sample look like what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks {
    /// Values looked at.
    pub values: u64,
    counts: [u64; Look::ALL.len()],
}

impl Looks {
    /// Looks at one more value.
    pub fn add(&mut self, text: &str) {
        self.values += 1;
        for (look, count) in Look::ALL.into_iter().zip(&mut self.counts) {
            *count += u64::from(shows(look, text));
        }
    }

    /// How many look like this.
    #[must_use]
    pub fn count(&self, look: Look) -> u64 {
        let mut pairs = Look::ALL.into_iter().zip(self.counts);
        pairs.find(|(one, _)| *one == look).map_or(0, |(_, count)| count)
    }

    /// What was found, with counts: one id is enough; words are told only when they are not rare.
    pub fn found(&self) -> impl Iterator<Item = (Look, u64)> {
        let rare = self.values / 50;
        let pairs = Look::ALL.into_iter().zip(self.counts);
        pairs.filter(move |(look, count)| match look {
            Look::CitizenId | Look::Phone | Look::Email => *count > 0,
            Look::PersonName | Look::Sensitive | Look::Personal => *count > rare,
        })
    }
}

fn shows(look: Look, text: &str) -> bool {
    let apart = |letter: char| !letter.is_ascii_digit();
    let in_email = |letter: char| letter.is_whitespace() || matches!(letter, ',' | ';' | '<' | '>');
    match look {
        Look::CitizenId => text.split(apart).any(|run| ids::citizen_id(run).is_some()),
        Look::Phone => text.split(apart).any(|run| run.len() >= 10 && ids::is_phone(run)),
        Look::Email => text.contains('@') && text.split(in_email).any(ids::is_email),
        Look::PersonName => is_person_name(text),
        Look::Sensitive => has_sensitive_word(text),
        Look::Personal => false,
    }
}

/// Words of the sensitive classes (Decree 356/2025, article 4), folded, each between blanks.
const SENSITIVE_WORDS: [&str; 24] = [
    "hiv",
    "ung thu",
    "dai thao duong",
    "tieu duong",
    "tam than",
    "benh an",
    "chan doan",
    "khuyet tat",
    "nhom mau",
    "viem gan",
    "lao phoi",
    "phat giao",
    "cong giao",
    "tin lanh",
    "cao dai",
    "hoa hao",
    "hoi giao",
    "ton giao",
    "dan toc",
    "dang vien",
    "tien an",
    "tien su benh",
    "huyet ap",
    "thai san",
];

fn has_sensitive_word(text: &str) -> bool {
    let letters = |letter: char| if letter.is_alphanumeric() { letter } else { ' ' };
    let plain: String = folded(text).chars().map(letters).collect();
    let plain = format!(" {plain} ");
    SENSITIVE_WORDS.iter().any(|word| plain.contains(&format!(" {word} ")))
}

/// Parts of column names in the files of agencies (domain notes §2.3), folded and run together.
const NAME_HINTS: [(Look, &[&str]); 6] = [
    (
        Look::CitizenId,
        &[
            "cccd",
            "cmnd",
            "dinhdanh",
            "cancuoc",
            "hochieu",
            "nationalid",
            "masothue",
            "bhxh",
            "bhyt",
        ],
    ),
    (Look::Phone, &["dienthoai", "sodt", "didong", "phone", "mobile"]),
    (Look::Email, &["email", "thudientu"]),
    (Look::PersonName, &["hoten", "hovaten", "tencha", "tenme", "tenvo", "tenchong", "fullname"]),
    (
        Look::Sensitive,
        &[
            "dantoc",
            "tongiao",
            "nhommau",
            "suckhoe",
            "benh",
            "chandoan",
            "khuyettat",
            "tienan",
            "dangvien",
            "chinhtri",
            "vantay",
            "mongmat",
            "chandung",
            "taikhoan",
            "luong",
            "thunhap",
            "religion",
            "ethnic",
            "blood",
            "diagnos",
            "salary",
            "income",
        ],
    ),
    (
        Look::Personal,
        &[
            "ngaysinh",
            "ngsinh",
            "namsinh",
            "diachi",
            "thuongtru",
            "tamtru",
            "quequan",
            "address",
            "birth",
            "honnhan",
        ],
    ),
];

/// Names too short to be looked for inside others.
const WHOLE_NAMES: [(Look, &str); 4] =
    [(Look::CitizenId, "sdd"), (Look::Phone, "sdt"), (Look::Phone, "tel"), (Look::Personal, "dob")];

/// What a column's name gives away.
#[must_use]
pub fn by_name(name: &str) -> Option<Look> {
    let plain: String = folded(name).chars().filter(|letter| letter.is_alphanumeric()).collect();
    let whole = WHOLE_NAMES.iter().find(|(_, own)| *own == plain).map(|(look, _)| *look);
    let part = |parts: &&[&str]| parts.iter().any(|part| plain.contains(part));
    whole.or_else(|| NAME_HINTS.iter().find(|(_, parts)| part(parts)).map(|(look, _)| *look))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_give_persons_away_are_counted() {
        let check = |texts: &[&str], expected: &[(Look, u64)]| {
            let mut looks = Looks::default();
            texts.iter().for_each(|text| looks.add(text));
            assert_eq!(looks.found().collect::<Vec<_>>(), expected, "{texts:?}");
        };
        check(&["Hồ sơ số 12", "đủ chữ ký"], &[]);
        check(&["CCCD: 046199000001, nộp ngày 1", "x"], &[(Look::CitizenId, 1)]);
        check(&["gọi 0905123456", "+84"], &[(Look::Phone, 1)]);
        check(&["gửi <lan@example.vn>"], &[(Look::Email, 1)]);
        check(&["Nguyễn Văn An", "Trần Thị Bé"], &[(Look::PersonName, 2)]);
        check(&["Bị Ung thư giai đoạn 2"], &[(Look::Sensitive, 1)]);
        check(&["ung thư", "a", "b"], &[(Look::Sensitive, 1)]);
        check(&["trung tâm", "thuộc"], &[]);
        assert!(!format!("{:?}", Looks::default()).contains("046"));
    }

    #[test]
    fn names_of_columns_give_persons_away() {
        let check =
            |name: &str, expected: Option<Look>| assert_eq!(by_name(name), expected, "{name}");
        check("SoCCCD", Some(Look::CitizenId));
        check("so_dinh_danh", Some(Look::CitizenId));
        check("SDT", Some(Look::Phone));
        check("Họ_và_tên", Some(Look::PersonName));
        check("NgSinh", Some(Look::Personal));
        check("DanToc", Some(Look::Sensitive));
        check("ma_xa", None);
        check("F12", None);
    }
}
