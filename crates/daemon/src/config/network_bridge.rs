//! The default bridge's subnets: dockerd says an address, a range and a gateway for each family.
use std::net::IpAddr;

use corten_network::model::SubnetRequest;
use ipnet::IpNet;

use crate::config::error::{ConfigError, invalid as value};

/// What is said about one family of the default bridge.
pub struct Family {
    pub bip: (&'static str, Option<String>),
    pub range: (&'static str, Option<String>),
    pub gateway: (&'static str, Option<String>),
    pub is_ipv4: bool,
}

impl Family {
    /// The subnet that was asked for, if any.
    pub fn subnet(self) -> Result<Option<SubnetRequest>, ConfigError> {
        let net = |(name, text): &(&'static str, Option<String>)| {
            let refused = |text: &String| value(name, format!("\"{text}\" is no address with a prefix length"));
            let parsed = text
                .as_ref()
                .map(|text| text.parse::<IpNet>().map_err(|_| refused(text)));
            match parsed.transpose()? {
                Some(net) if matches!(net, IpNet::V4(_)) != self.is_ipv4 => {
                    Err(value(name, format!("{net} is of the other family")))
                }
                net => Ok(net),
            }
        };
        let (bip, range) = (net(&self.bip)?, net(&self.range)?);
        let gateway: Option<IpAddr> = match &self.gateway {
            (_, None) => None,
            (name, Some(text)) => Some(
                text.parse()
                    .map_err(|_| value(name, format!("\"{text}\" is no address")))?,
            ),
        };
        let Some(subnet) = bip.or(range) else {
            return match gateway {
                None => Ok(None),
                Some(_) => Err(value(self.gateway.0, format!("it needs --{} too", self.bip.0))),
            };
        };
        if let Some(range) = range.filter(|range| !subnet.trunc().contains(&range.trunc())) {
            return Err(value(
                self.range.0,
                format!("{range} is not part of {}", subnet.trunc()),
            ));
        }
        let own = bip.map(|bip| bip.addr());
        if let Some(gateway) = gateway.filter(|gateway| !subnet.trunc().contains(gateway)) {
            return Err(value(
                self.gateway.0,
                format!("{gateway} is not part of {}", subnet.trunc()),
            ));
        }
        // The name is Docker's, for a router on the bridge that is not the bridge.
        let router = if self.is_ipv4 {
            "DefaultGatewayIPv4"
        } else {
            "DefaultGatewayIPv6"
        };
        let router = gateway
            .filter(|_| gateway != own)
            .map(|gateway| (router.to_owned(), gateway));
        Ok(Some(SubnetRequest {
            subnet: Some(subnet.trunc()),
            range: range
                .map(|range| range.trunc())
                .filter(|range| *range != subnet.trunc()),
            gateway: own,
            auxiliary: router.into_iter().collect(),
        }))
    }
}
