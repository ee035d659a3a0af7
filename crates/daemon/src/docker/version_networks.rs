//! What differs for clients of older API versions about networks: where a hardware address is asked for, what a
//! container is called, which family has a switch.
use std::collections::BTreeMap;

use corten_api::types::{
    container::{CreateRequest, PortBinding},
    container_answers::ContainerInspect,
    network::{EndpointSettings, NetworkCreateRequest},
};

use crate::{
    docker::{
        convert::container_network::is_user_defined,
        version::{ApiVersion, v},
    },
    error::ApiError,
};

const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const MAC_MOVED: &str = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig \
                         instead.";

/// `POST /networks/create`. IPv4 could not be switched off.
pub fn create(version: ApiVersion, request: &mut NetworkCreateRequest) {
    if version < v(48) {
        request.enable_ipv4 = None;
    }
}

/// `GET /containers/{name}/json`.
pub fn inspect(version: ApiVersion, document: &mut ContainerInspect) {
    if version >= v(45) {
        return;
    }
    let short_id = document.id.get(..12).unwrap_or(&document.id).to_owned();
    let hostname = document.config.hostname.clone();
    for (name, endpoint) in &mut document.network_settings.networks {
        if is_user_defined(name) {
            let aliases = endpoint.aliases.get_or_insert_default();
            for alias in [&short_id, &hostname] {
                if !aliases.contains(alias) {
                    aliases.push(alias.clone());
                }
            }
        }
    }
}

/// `POST /containers/create`: the network part, and what to warn of.
pub fn create_container(
    version: ApiVersion,
    default_network: &str,
    request: &mut CreateRequest,
) -> Result<Vec<String>, ApiError> {
    name_default_network(default_network, request);
    fill_bindings(request);
    let mut warnings = Vec::new();
    move_mac(version, request, &mut warnings)?;
    move_sysctls(version, request, &mut warnings)?;
    if version < v(48) {
        for endpoint in request.networking_config.endpoints_config.values_mut().flatten() {
            endpoint.gw_priority = 0;
        }
    }
    Ok(warnings)
}

/// "default" is a name for `bridge`, or for `none` where there is no bridge: in the mode and as an endpoint's key.
fn name_default_network(default: &str, request: &mut CreateRequest) {
    let mode = &mut request.host_config.network_mode;
    if !matches!(mode.as_str(), "" | "default") {
        return;
    }
    default.clone_into(mode);
    let endpoints = &mut request.networking_config.endpoints_config;
    if let Some(wish) = endpoints.remove("default") {
        endpoints.insert(default.to_owned(), wish);
    }
}

/// A port without bindings is one that is published anywhere.
fn fill_bindings(request: &mut CreateRequest) {
    for bindings in request
        .host_config
        .port_bindings
        .iter_mut()
        .flat_map(BTreeMap::values_mut)
    {
        let bindings = bindings.get_or_insert_default();
        if bindings.is_empty() {
            bindings.push(PortBinding::default());
        }
    }
}

/// The main network's endpoint, made where the request has none; absent where its key cannot be told.
fn main_endpoint(request: &mut CreateRequest) -> Option<&mut EndpointSettings> {
    let mode = request.host_config.network_mode.clone();
    let endpoints = &mut request.networking_config.endpoints_config;
    if !endpoints.is_empty() && !endpoints.contains_key(&mode) {
        return None;
    }
    Some(endpoints.entry(mode).or_default().get_or_insert_default())
}

/// Since 1.44 a hardware address belongs to an endpoint.
fn move_mac(version: ApiVersion, request: &mut CreateRequest, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    if version < v(44) {
        // Endpoints could not be asked for one.
        for endpoint in request.networking_config.endpoints_config.values_mut().flatten() {
            endpoint.mac_address.clear();
        }
    }
    let Some(mac) = request.config.mac_address.take().filter(|mac| !mac.is_empty()) else {
        return Ok(());
    };
    let mode = request.host_config.network_mode.clone();
    let has_address = mode == "bridge" || is_user_defined(&mode);
    if !has_address {
        if version < v(44) {
            return Ok(());
        }
        return Err(ApiError::invalid(
            "conflicting options: mac-address and the network mode",
        ));
    }
    let Some(endpoint) = main_endpoint(request) else {
        if version < v(44) {
            let wish = EndpointSettings {
                mac_address: mac,
                ..EndpointSettings::default()
            };
            request.networking_config.endpoints_config.insert(mode, Some(wish));
            return Ok(());
        }
        return Err(ApiError::invalid(
            "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the \
             identity of a network in NetworkSettings.Networks",
        ));
    };
    if version >= v(44) {
        if !endpoint.mac_address.is_empty() && endpoint.mac_address != mac {
            return Err(ApiError::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or \
                 be left empty",
            ));
        }
        warnings.push(MAC_MOVED.to_owned());
    }
    endpoint.mac_address = mac;
    Ok(())
}

/// Since 1.48 a parameter of one interface belongs to an endpoint, and only that of `eth0` could be meant before.
fn move_sysctls(version: ApiVersion, request: &mut CreateRequest, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    let of_interface = |key: &str| {
        let mut parts = key.split('.');
        parts.next() == Some("net")
            && matches!(parts.next(), Some("ipv4" | "ipv6" | "mpls"))
            && matches!(parts.next(), Some("conf" | "neigh"))
            && !matches!(parts.next(), None | Some("all" | "default"))
    };
    let asked = request.host_config.sysctls.iter().flatten();
    let mut moving: Vec<(String, String)> = asked
        .filter(|(key, _)| of_interface(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if moving.is_empty() {
        return Ok(());
    }
    if version >= v(48) {
        return Err(ApiError::invalid(format!(
            "interface specific sysctl setting \"{}\" must be supplied using driver option '{ENDPOINT_SYSCTLS}'",
            moving[0].0
        )));
    }
    moving.retain(|(key, _)| key.split('.').nth(3) == Some("eth0"));
    let mode = &request.host_config.network_mode;
    if moving.is_empty() || !(mode == "bridge" || is_user_defined(mode)) {
        return Ok(());
    }
    let Some(endpoint) = main_endpoint(request) else {
        return Err(ApiError::invalid(
            "unable to migrate sysctls to a specific network: HostConfig.NetworkMode must match the identity of a \
             network in NetworkSettings.Networks",
        ));
    };
    let options = endpoint.driver_opts.get_or_insert_default();
    let option = options.entry(ENDPOINT_SYSCTLS.to_owned()).or_default();
    for (key, value) in &moving {
        let renamed = key.replacen(".eth0.", ".IFNAME.", 1);
        if !option.is_empty() {
            option.push(',');
        }
        option.push_str(&format!("{renamed}={value}"));
        warnings.push(format!(
            "Migrated sysctl \"{key}\" to DriverOpts{{\"{ENDPOINT_SYSCTLS}\":\"{renamed}={value}\"}}."
        ));
    }
    if let Some(sysctls) = &mut request.host_config.sysctls {
        sysctls.retain(|key, _| !moving.iter().any(|(moved, _)| moved == key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(
        minor: u16,
        mode: &str,
        change: impl FnOnce(&mut CreateRequest),
    ) -> Result<(CreateRequest, Vec<String>), ApiError> {
        let mut request = CreateRequest::default();
        request.host_config.network_mode = mode.to_owned();
        change(&mut request);
        let warnings = create_container(v(minor), "bridge", &mut request)?;
        Ok((request, warnings))
    }

    fn endpoint<'a>(request: &'a CreateRequest, name: &str) -> &'a EndpointSettings {
        request.networking_config.endpoints_config[name]
            .as_ref()
            .expect("an endpoint")
    }

    fn with_endpoint(name: &str, mac: &str) -> impl FnOnce(&mut CreateRequest) {
        let wish = EndpointSettings {
            mac_address: mac.to_owned(),
            gw_priority: 7,
            ..Default::default()
        };
        let name = name.to_owned();
        move |request| {
            request.networking_config.endpoints_config.insert(name, Some(wish));
        }
    }

    #[test]
    fn the_default_network_has_one_name_inside() {
        let (request, _) = created(51, "default", with_endpoint("default", "")).unwrap();
        assert_eq!(request.host_config.network_mode, "bridge");
        assert_eq!(endpoint(&request, "bridge").gw_priority, 7);
        let (request, _) = created(51, "web", with_endpoint("web", "")).unwrap();
        assert_eq!(request.host_config.network_mode, "web");
        let mut request = CreateRequest::default();
        create_container(v(51), "none", &mut request).unwrap();
        assert_eq!(request.host_config.network_mode, "none", "no default bridge");
    }

    #[test]
    fn before_48_no_priority_of_gateways() {
        let priority = |minor| {
            let (request, _) = created(minor, "web", with_endpoint("web", "")).unwrap();
            endpoint(&request, "web").gw_priority
        };
        assert_eq!((priority(47), priority(48)), (0, 7));
    }

    #[test]
    fn before_44_the_container_has_the_hardware_address() {
        let mac = "02:42:00:00:00:01";
        let at = |minor, own: &str| {
            created(minor, "web", |request| {
                with_endpoint("web", own)(request);
                request.config.mac_address = Some(mac.to_owned());
            })
        };
        let (request, warnings) = at(43, "02:42:00:00:00:99").unwrap();
        assert_eq!(endpoint(&request, "web").mac_address, mac);
        assert!(warnings.is_empty());
        let (request, warnings) = at(44, "").unwrap();
        assert_eq!(endpoint(&request, "web").mac_address, mac);
        assert_eq!(request.config.mac_address, None);
        assert_eq!(warnings, [MAC_MOVED]);
        assert!(at(44, mac).is_ok());
        let refused = at(44, "02:42:00:00:00:99").unwrap_err();
        assert!(refused.message().contains("must match the endpoint-specific"));
        let own = |minor| {
            let (request, _) = created(minor, "web", with_endpoint("web", mac)).unwrap();
            endpoint(&request, "web").mac_address.clone()
        };
        assert_eq!((own(43).as_str(), own(44).as_str()), ("", mac));
    }

    #[test]
    fn a_hardware_address_needs_an_interface() {
        let on = |mode| {
            created(44, mode, |request| {
                request.config.mac_address = Some("02:42:00:00:00:01".to_owned())
            })
        };
        let message = on("host").unwrap_err();
        assert_eq!(
            message.message(),
            "conflicting options: mac-address and the network mode"
        );
        let (request, _) = on("").unwrap();
        assert_eq!(endpoint(&request, "bridge").mac_address, "02:42:00:00:00:01");
        let elsewhere = created(44, "web", |request| {
            with_endpoint("other", "")(request);
            request.config.mac_address = Some("02:42:00:00:00:01".to_owned());
        });
        assert!(
            elsewhere
                .unwrap_err()
                .message()
                .starts_with("unable to migrate container-wide")
        );
    }

    #[test]
    fn before_48_parameters_of_eth0_were_the_containers() {
        let at = |minor| {
            created(minor, "web", |request| {
                let sysctls = [("net.ipv4.conf.eth0.log_martians", "1"), ("net.ipv4.ip_forward", "1")];
                let sysctls = sysctls.map(|(key, value)| (key.to_owned(), value.to_owned()));
                request.host_config.sysctls = Some(sysctls.into());
            })
        };
        let (request, warnings) = at(47).unwrap();
        assert_eq!(request.host_config.sysctls.as_ref().unwrap().len(), 1);
        assert_eq!(
            endpoint(&request, "web").driver_opts.as_ref().unwrap()[ENDPOINT_SYSCTLS],
            "net.ipv4.conf.IFNAME.log_martians=1"
        );
        assert_eq!(warnings.len(), 1);
        assert_eq!(
            at(48).unwrap_err().message(),
            "interface specific sysctl setting \"net.ipv4.conf.eth0.log_martians\" must be supplied using driver option \
             'com.docker.network.endpoint.sysctls'"
        );
    }

    #[test]
    fn before_48_ipv4_has_no_switch() {
        let at = |minor| {
            let mut request = NetworkCreateRequest {
                enable_ipv4: Some(false),
                ..Default::default()
            };
            create(v(minor), &mut request);
            request.enable_ipv4
        };
        assert_eq!((at(47), at(48)), (None, Some(false)));
    }

    #[test]
    fn before_45_a_containers_id_was_an_alias() {
        let at = |minor| {
            let mut document = ContainerInspect {
                id: "0123456789abcdef".to_owned(),
                ..Default::default()
            };
            document.config.hostname = "0123456789ab".to_owned();
            for name in ["web", "bridge"] {
                let networks = &mut document.network_settings.networks;
                networks.insert(name.to_owned(), EndpointSettings::default());
            }
            inspect(v(minor), &mut document);
            document.network_settings.networks
        };
        assert_eq!(at(44)["web"].aliases, Some(vec!["0123456789ab".to_owned()]));
        assert_eq!((&at(44)["bridge"].aliases, &at(45)["web"].aliases), (&None, &None));
    }

    #[test]
    fn a_port_without_bindings_is_published_anywhere() {
        let (request, _) = created(51, "web", |request| {
            let ports = [("80/tcp".to_owned(), Some(Vec::new())), ("81/tcp".to_owned(), None)];
            request.host_config.port_bindings = Some(ports.into());
        })
        .unwrap();
        let bindings = request.host_config.port_bindings.unwrap();
        assert!(
            bindings
                .values()
                .all(|list| list.as_deref() == Some(&[PortBinding::default()]))
        );
    }
}
