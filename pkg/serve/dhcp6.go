package serve

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/dhcp6"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
)

// RFC 8415 §7.2: whatever port a client sends from, it listens on its own.
const (
	portDHCP6Client = 546
	portDHCP6Server = 547
)

func (s *Server) respondDHCP6(l lease.Lease, request []byte) ([][]byte, bool) {
	udp, err := frame.ParseUDP6(request)
	if err != nil || udp.Dst.Port() != portDHCP6Server {
		return nil, false
	}
	if udp.SrcMAC != l.MAC {
		s.stats.count("other-mac")
		return nil, true
	}
	req, err := dhcp6.Parse(udp.Payload)
	if err != nil {
		s.stats.count("malformed")
		s.opts.Log.Debug("malformed DHCPv6 message", "err", err)
		return nil, true
	}
	log := s.opts.Log.With("msg_type", req.Type.String(), "xid", fmt.Sprintf("%x", req.XID))
	answer, ok := dhcp6.Reply(l, req, udp.Dst.Addr())
	if !ok {
		s.stats.count(answer.Reason)
		log.Debug("not answered", "reason", answer.Reason)
		return nil, true
	}
	s.stats.exchange6(req, answer)
	s.logAnswer6(log, l, req, answer)
	return [][]byte{frame.AppendUDP6(nil, frame.UDP6{
		SrcMAC: l.Server.MAC, DstMAC: udp.SrcMAC,
		Src: netip.AddrPortFrom(l.Server.LinkLocal, portDHCP6Server), Dst: netip.AddrPortFrom(udp.Src.Addr(), portDHCP6Client),
		Payload: answer.Payload,
	})}, true
}

// bound6 reports whether the guest has its addresses by this answer.
func bound6(req *dhcp6.Request, a dhcp6.Answer) bool {
	switch req.Type {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		return a.Type == dhcpv6.MessageTypeReply && a.Status == ""
	default:
		return false
	}
}

// logAnswer6 is loud about a DECLINE, as logSilence is.
func (s *Server) logAnswer6(log *slog.Logger, l lease.Lease, req *dhcp6.Request, a dhcp6.Answer) {
	log.Debug("answered", "answer", a.Type.String(), "status", a.Status)
	switch {
	case a.Reason == dhcp6.ReasonDecline && s.stats.mayLog("decline6"):
		log.Error("the guest declined its IPv6 addresses: somebody else answers for one", "lease", fmt.Sprint(l.AddrsOf(false)), "mac", l.MAC.String())
	case a.Reason == dhcp6.ReasonRelease && s.stats.mayLog("release6"):
		log.Info("the guest released its IPv6 addresses")
	case bound6(req, a) && s.stats.mayLog("bound6"):
		log.Info("guest bound", "lease", fmt.Sprint(l.AddrsOf(false)), "mac", l.MAC.String(), "hostname", req.Hostname)
	}
	if a.Warning != "" && s.stats.mayLog("warning6") {
		log.Warn(a.Warning)
	}
	if len(a.Dropped) > 0 && s.stats.mayLog("dropped6") {
		log.Warn("the answer had no room for all options", "left_out", strings.Join(a.Dropped, ", "))
	}
}
