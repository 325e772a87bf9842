//! Makes ML-DSA keys in a token that our programs never make: of another parameter set, or ones that
//! can be taken out. A program of its own, since a library finds its tokens by the environment.
//!
//! `lockgate-test-card MODULE TOKEN KEY 65|87 kept|loose`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's own program"
)]

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, MlDsaParameterSetType};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use system_tests::card::PIN;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [module, token, key, set, kept] = &args[..] else { panic!("MODULE TOKEN KEY 65|87 kept|loose") };
    let context = Pkcs11::new(module).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slots = context.get_slots_with_initialized_token().unwrap().into_iter();
    let slot = slots.into_iter().find(|slot| context.get_token_info(*slot).unwrap().label() == token).unwrap();
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
    let set = match set.as_str() {
        "65" => MlDsaParameterSetType::ML_DSA_65,
        _ => MlDsaParameterSetType::ML_DSA_87,
    };
    let named = [Attribute::Token(true), Attribute::Label(key.as_bytes().to_vec())];
    let public = [&named[..], &[Attribute::Verify(true), Attribute::ParameterSet(set.into())]].concat();
    let loose = kept == "loose";
    let secrecy = [Attribute::Sign(true), Attribute::Sensitive(!loose), Attribute::Extractable(loose)];
    session.generate_key_pair(&Mechanism::MlDsaKeyPairGen, &public, &[&named[..], &secrecy].concat()).unwrap();
}
