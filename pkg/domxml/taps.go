package domxml

// Taps returns the devices that the cards of a domain are to open and not to make:
// the targets of its interfaces of type ethernet.
func Taps(domain string) ([]string, error) {
	root, err := parseDomain(domain)
	if err != nil {
		return nil, err
	}
	var taps []string
	for _, devices := range root.all("devices") {
		for _, n := range devices.all("interface") {
			if t := n.child("target"); t != nil && n.attrs["type"] == "ethernet" && t.attrs["dev"] != "" {
				taps = append(taps, t.attrs["dev"])
			}
		}
	}
	return taps, nil
}
