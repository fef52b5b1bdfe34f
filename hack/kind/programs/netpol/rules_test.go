package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// world is two namespaces; the pods a, b and h (in its node's network) on node n,
// c on another.
const world = `{
	"namespaces": [
		{"metadata": {"name": "one", "labels": {"team": "red"}}},
		{"metadata": {"name": "two", "labels": {"team": "blue"}}}],
	"pods": [
		{"metadata": {"namespace": "one", "name": "a", "labels": {"app": "a"}}, "spec": {"nodeName": "n"},
		 "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}},
		{"metadata": {"namespace": "two", "name": "b", "labels": {"app": "b"}}, "spec": {"nodeName": "n"},
		 "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}]}},
		{"metadata": {"namespace": "one", "name": "h"}, "spec": {"nodeName": "n", "hostNetwork": true},
		 "status": {"phase": "Running", "podIPs": [{"ip": "172.18.0.2"}]}},
		{"metadata": {"namespace": "one", "name": "over", "labels": {"app": "c"}}, "spec": {"nodeName": "n"},
		 "status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.9"}]}},
		{"metadata": {"namespace": "one", "name": "c", "labels": {"app": "c"}}, "spec": {"nodeName": "other"},
		 "status": {"phase": "Running", "podIPs": [{"ip": "10.0.1.3"}]}}]}`

func given(t *testing.T, policies ...string) cluster {
	t.Helper()
	var all struct {
		Namespaces []namespace
		Pods       []pod
		Policies   []policy
	}
	text := strings.TrimSuffix(world, "}") + `, "policies": [` + strings.Join(policies, ",") + "]}"
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return cluster{policies: all.Policies, pods: all.Pods, namespaces: all.Namespaces}
}

func in(namespace, spec string) string {
	return `{"metadata": {"namespace": "` + namespace + `", "name": "p"}, "spec": ` + spec + `}`
}

var chain = regexp.MustCompile(`(?s)chain (pod\d+) \{(.*?)\n\t\}`)

// about returns the lines of the chain that a pod's packets in a direction go
// through, or "none".
func about(rules, direction, id string) string {
	jump := regexp.MustCompile(`jump (pod\d+) comment "` + direction + " " + id + `"`).FindStringSubmatch(rules)
	if jump == nil {
		return "none"
	}
	for _, each := range chain.FindAllStringSubmatch(rules, -1) {
		if each[1] == jump[1] {
			return strings.Join(strings.FieldsFunc(each[2], func(r rune) bool { return r == '\n' || r == '\t' }), "; ")
		}
	}
	return "a chain that is not there"
}

func TestRules(t *testing.T) {
	const all = `"podSelector": {}`
	tests := map[string]struct{ policy, direction, pod, want string }{
		"a policy without types is about ingress": {in("one", "{"+all+"}"), "Ingress", "one/a", "drop"},
		"and not about egress":                    {in("one", "{"+all+"}"), "Egress", "one/a", "none"},
		"unless it has rules for it":              {in("one", "{"+all+`, "egress": [{}]}`), "Egress", "one/a", "return; drop"},
		"its types decide":                        {in("one", "{"+all+`, "policyTypes": ["Egress"]}`), "Ingress", "one/a", "none"},
		"another namespace is not meant":          {in("one", "{"+all+"}"), "Ingress", "two/b", "none"},
		"a pod of another node is not ours":       {in("one", "{"+all+"}"), "Ingress", "one/c", "none"},
		"a pod in the node's network is not":      {in("one", "{"+all+"}"), "Ingress", "one/h", "none"},
		"labels select":                           {in("one", `{"podSelector": {"matchLabels": {"app": "b"}}}`), "Ingress", "one/a", "none"},
		"pods of the same namespace": {
			in("one", "{"+all+`, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "c"}}}]}]}`),
			"Ingress", "one/a", "ip saddr 10.0.1.3 return; drop",
		},
		"pods of another namespace": {
			in("one", "{"+all+`, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}]}`),
			"Ingress", "one/a", "ip saddr 10.0.0.2 return; drop",
		},
		"both selectors have to select": {
			in("one", "{"+all+`, "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "c"}}}]}]}`),
			"Ingress", "one/a", "ip saddr 10.0.1.3 return; drop",
		},
		"each family by its own match": {
			in("two", "{"+all+`, "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a"}}}]}]}`),
			"Ingress", "two/b", "ip saddr 10.0.0.1 return; ip6 saddr fd00::1 return; drop",
		},
		"a selector that selects nobody allows nobody": {
			in("one", "{"+all+`, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}]}`), "Ingress", "one/a", "drop",
		},
		"blocks with exceptions": {
			in("one", "{"+all+`, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}]}]}`),
			"Egress", "one/a", "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16, 10.2.0.0/16 } return; drop",
		},
		"ports, of TCP if nothing is said": {
			in("one", "{"+all+`, "ingress": [{"ports": [{"port": 80}, {"protocol": "UDP", "port": 53}, {"port": 1, "endPort": 9}, {"protocol": "SCTP"}]}]}`),
			"Ingress", "one/a", "tcp dport 80 return; udp dport 53 return; tcp dport 1-9 return; meta l4proto sctp return; drop",
		},
		"a port's name matches nothing": {
			in("one", "{"+all+`, "ingress": [{"ports": [{"port": "http"}]}]}`), "Ingress", "one/a", "drop",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rules := given(t, test.policy).rules("n")
			if got := about(rules, test.direction, test.pod); got != test.want {
				t.Errorf("got %q, want %q in\n%s", got, test.want, rules)
			}
		})
	}
}

func TestPoliciesAddUp(t *testing.T) {
	deny := in("one", `{"podSelector": {}}`)
	allow := in("one", `{"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"ports": [{"port": 80}]}]}`)
	rules := given(t, deny, allow).rules("n")
	if got, want := about(rules, "Ingress", "one/a"), "tcp dport 80 return; drop"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, each := range []string{"ip daddr 10.0.0.1 jump", "ip6 daddr fd00::1 jump"} {
		if !strings.Contains(rules, each) {
			t.Errorf("no %q in\n%s", each, rules)
		}
	}
}

// On a bridge, a pod that may receive nothing would otherwise find no neighbour.
func TestNeighbourDiscoveryPassesBeforeAnyPolicy(t *testing.T) {
	rules := given(t, in("one", `{"podSelector": {}}`)).rules("n")
	pass, jump := strings.Index(rules, "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"), strings.Index(rules, " jump ")
	if pass < 0 || jump < pass {
		t.Errorf("neighbour discovery passes at %d, a policy begins at %d in\n%s", pass, jump, rules)
	}
}

func TestSelectorExpressions(t *testing.T) {
	labels := map[string]string{"app": "a", "empty": ""}
	tests := map[string]bool{
		`{}`:                                true,
		`{"matchLabels": {"empty": ""}}`:    true,
		`{"matchLabels": {"none": ""}}`:     false,
		expression("app", "In", "a", "b"):   true,
		expression("app", "In", "b"):        false,
		expression("none", "In", ""):        false,
		expression("app", "NotIn", "b"):     true,
		expression("app", "NotIn", "a"):     false,
		expression("none", "NotIn", "a"):    true,
		expression("empty", "Exists"):       true,
		expression("none", "Exists"):        false,
		expression("none", "DoesNotExist"):  true,
		expression("empty", "DoesNotExist"): false,
	}
	for text, want := range tests {
		var s selector
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if got := s.matches(labels); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func expression(key, operator string, values ...string) string {
	list, _ := json.Marshal(values)
	return `{"matchExpressions": [{"key": "` + key + `", "operator": "` + operator + `", "values": ` + string(list) + `}]}`
}
