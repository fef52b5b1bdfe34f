// Command netpol enforces NetworkPolicy on a node of a cluster whose CNI plugins
// do not: it asks the API server, with the kubelet's own certificate, for what
// there is, and writes it down as a table of nftables.
//
// It is for clusters of tests: it asks every second, and names of ports (rather
// than their numbers) match nothing.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"time"
)

const (
	kubeconfig  = "/etc/kubernetes/kubelet.conf"
	certificate = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	authority   = "/etc/kubernetes/pki/ca.crt"
	interval    = time.Second
)

func main() {
	node, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	enforced, said := "", ""
	for ; ; time.Sleep(interval) {
		// The certificate is renewed, and the address may change: each round reads them.
		rules, err := wanted(node)
		if err == nil && rules != enforced {
			err = apply(rules)
		}
		if err != nil {
			if err.Error() != said {
				log.Print(err)
			}
			said = err.Error()
			continue
		}
		if said = ""; rules != enforced {
			log.Printf("the rules have changed, and have %d bytes now", len(rules))
		}
		enforced = rules
	}
}

// wanted asks for what there is, and returns the rules for the pods of a node.
func wanted(node string) (string, error) {
	api, err := connect()
	if err != nil {
		return "", err
	}
	defer api.client.CloseIdleConnections()
	var c cluster
	if err := api.list("/apis/networking.k8s.io/v1/networkpolicies", &c.policies); err != nil {
		return "", err
	}
	if len(c.policies) > 0 {
		err = errors.Join(api.list("/api/v1/pods", &c.pods), api.list("/api/v1/namespaces", &c.namespaces))
	}
	return c.rules(node), err
}

type server struct {
	url    string
	client *http.Client
}

func connect() (server, error) {
	config, err := os.ReadFile(kubeconfig)
	if err != nil {
		return server{}, err
	}
	url := regexp.MustCompile(`(?m)^\s*server: (\S+)$`).FindSubmatch(config)
	if url == nil {
		return server{}, fmt.Errorf("no server in %q", kubeconfig)
	}
	own, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return server{}, err
	}
	ca, err := os.ReadFile(authority)
	if err != nil {
		return server{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{own}, RootCAs: roots, MinVersion: tls.VersionTLS12,
	}}
	return server{string(url[1]), &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// list reads all objects of a kind. Version 0 is what the server holds in memory.
func (s server) list(path string, items any) error {
	response, err := s.client.Get(s.url + path + "?resourceVersion=0")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("listing %q: %s", path, response.Status)
	}
	all := struct{ Items any }{items}
	return json.NewDecoder(response.Body).Decode(&all)
}

func apply(rules string) error {
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = bytes.NewBufferString(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("running nft: %w: %s", err, output)
	}
	return nil
}
