//! The hub's files: any text is read or refused, in every form there is.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::fuzz_target;
use phusa_hub::category::list::List;
use phusa_hub::config::HubFile;
use phusa_hub::config::profile::Profile;
use phusa_protocol::network::Network;
use phusa_protocol::units::{ByteSize, Span};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = toml::from_str::<HubFile>(text);
    if let Ok(profile) = Profile::from_toml(text) {
        let _ = profile.explained();
    }
    if let Ok(list) = List::from_toml(text) {
        let again = List::from_toml(&list.to_toml()).expect("what was written is one");
        assert_eq!(again.digest(), list.digest());
    }
    if let Ok(size) = ByteSize::try_from(text.to_owned()) {
        assert_eq!(ByteSize::try_from(size.to_string()), Ok(size));
    }
    if let Ok(span) = Span::try_from(text.to_owned()) {
        assert_eq!(Span::try_from(span.to_string()), Ok(span));
    }
    if let Ok(network) = text.parse::<Network>() {
        let _ = network.contains(std::net::Ipv4Addr::LOCALHOST.into());
    }
});
