package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/dhcp4"
	"github.com/podwire/podwire/pkg/dnsforward"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/neighbor"
)

const portDHCPServer = 67

// A responder answers one kind of frame; done says that the frame was of that
// kind, whether or not it gets an answer.
type responder func(s *Server, l lease.Lease, request []byte) (replies [][]byte, done bool)

var responders = []responder{
	(*Server).respondDHCP4, (*Server).respondNeighbor, (*Server).respondRS, (*Server).respondProbe, (*Server).respondDHCP6, (*Server).respondDNS,
}

func (s *Server) respondNeighbor(l lease.Lease, request []byte) ([][]byte, bool) {
	asked := s.askGateway(l, request)
	reply, ok := neighbor.Reply(l, request)
	if !ok {
		return nil, asked // of one that is silent yet: the guest is told when it is heard
	}
	kind := "arp-reply"
	if frame.EtherType(reply) == frame.EtherTypeIPv6 {
		kind = "nd-reply"
	}
	s.stats.count(kind)
	return [][]byte{reply}, true
}

// respondDNS hands over what is for podwire's DNS; the answers come from elsewhere.
func (s *Server) respondDNS(l lease.Lease, request []byte) ([][]byte, bool) {
	if s.opts.DNS == nil {
		return nil, false
	}
	p, err := frame.ParsePacket(request)
	if err != nil || !slices.Contains(l.Server.DNS, p.Dst) {
		return nil, false
	}
	err = s.opts.DNS.FromGuest(request)
	switch {
	case errors.Is(err, dnsforward.ErrDropped):
		s.stats.count("dns-not-ours")
		s.opts.Log.Debug("not relayed", "err", err)
	case err != nil && s.stats.mayLog("dns"):
		s.opts.Log.Warn("the guest's DNS question is lost", "err", err)
	}
	return nil, true
}

func (s *Server) respondDHCP4(l lease.Lease, request []byte) ([][]byte, bool) {
	udp, err := frame.ParseUDP4(request)
	if err != nil || udp.Dst.Port() != portDHCPServer {
		return nil, false
	}
	req, err := dhcp4.Parse(udp.Payload)
	if err != nil {
		s.stats.count("malformed")
		s.opts.Log.Debug("malformed DHCP message", "err", err)
		return nil, true
	}
	log := s.opts.Log.With("msg_type", req.Type.String(), "xid", fmt.Sprintf("%x", req.XID))
	answer, ok := dhcp4.Reply(l, req)
	if !ok {
		s.stats.silence4(req, answer.Reason)
		s.logSilence(log, req, answer.Reason)
		return nil, true
	}
	s.stats.exchange4(req, answer)
	s.logAnswer(log, l, req, answer)
	dst := req.CHAddr
	if answer.Broadcast {
		dst = frame.Broadcast
	}
	udp = frame.UDP4{
		SrcMAC: l.Server.MAC, DstMAC: dst,
		Src: netip.AddrPortFrom(l.Server.ID, portDHCPServer), Dst: answer.Dst,
		Payload: answer.Payload,
	}
	replies := [][]byte{frame.AppendUDP4(nil, udp)}
	if answer.Refuses() && req.CIAddr.IsValid() {
		// A NAK goes to everybody (RFC 2131 §4.1), which a client that renews and listens at its
		// own address alone, as systemd-networkd does, would not hear before T2.
		udp.DstMAC, udp.Dst = req.CHAddr, netip.AddrPortFrom(req.CIAddr, answer.Dst.Port())
		replies = append(replies, frame.AppendUDP4(nil, udp))
	}
	return replies, true
}

// logSilence is loud about a DECLINE alone: the guest found its own address in
// use, so it has no network.
func (s *Server) logSilence(log *slog.Logger, req *dhcp4.Request, reason string) {
	switch {
	case reason == dhcp4.ReasonDecline && s.stats.mayLog("decline"):
		log.Error("the guest declined its address: somebody else answers for it",
			"lease", req.RequestedIP, "mac", req.CHAddr)
	case reason == dhcp4.ReasonRelease && s.stats.mayLog("release"):
		log.Info("the guest released its address", "lease", req.CIAddr)
	default:
		log.Debug("not answered", "reason", reason)
	}
}

func (s *Server) logAnswer(log *slog.Logger, l lease.Lease, req *dhcp4.Request, a dhcp4.Answer) {
	kind := a.Type.String()
	log.Debug("answered", "answer", kind)
	if kind != "OFFER" && s.stats.mayLog(kind) {
		addr, _ := l.IPv4()
		log.Info("guest "+strings.ToLower(verb(kind)), "lease", addr.String(), "mac", req.CHAddr.String(), "hostname", req.Hostname)
	}
	if a.Warning != "" && s.stats.mayLog("warning") {
		log.Warn(a.Warning)
	}
	if len(a.Dropped) > 0 && s.stats.mayLog("dropped") {
		log.Warn("the answer had no room for all options", "left_out", strings.Join(a.Dropped, ", "))
	}
}

func verb(kind string) string {
	if kind == "NAK" {
		return "refused: it asked for another address"
	}
	return "bound"
}
