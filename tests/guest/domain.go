package guest

import (
	"bytes"
	"encoding/xml"
	"runtime"
	"strings"
	"text/template"
)

// Domain describes a guest to libvirt, as podwire's user would: without a
// network interface, which is podwire's to put in.
type Domain struct {
	Name    string
	Image   Image
	Accel   string   // kvm or tcg
	Console string   // path of a unix socket that somebody listens on
	Log     string   // path that the console is appended to, in place of Console
	Ask     []string // for the guest's kernel command line, such as podwire.show=1
	VCPUs   int      // one where 0
}

var domainXML = template.Must(template.New("domain").Funcs(template.FuncMap{"text": escape}).Parse(
	`<domain type='{{if eq .Accel "kvm"}}kvm{{else}}qemu{{end}}'>
  <name>{{text .Name}}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>{{.VCPUs}}</vcpu>
  <os>
    <type arch='{{.Machine.Arch}}' machine='{{.Machine.Kind}}'>hvm</type>
    <kernel>{{text .Image.Kernel}}</kernel>
    <initrd>{{text .Image.Initrd}}</initrd>
    <cmdline>{{text .Cmdline}}</cmdline>
  </os>
  <features><acpi/></features>
{{- if eq .Machine.CPU "host"}}
  <cpu mode='host-passthrough'/>
{{- else if .Machine.CPU}}
  <cpu mode='custom'><model>{{.Machine.CPU}}</model></cpu>
{{- end}}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
{{- if .Log}}
    <serial type='file'>
      <source path='{{text .Log}}' append='on'/>
    </serial>
{{- else}}
    <serial type='unix'>
      <source mode='connect' path='{{text .Console}}'/>
    </serial>
{{- end}}
    <memballoon model='none'/>
  </devices>
</domain>
`))

// XML returns the domain for libvirt.
func (d Domain) XML() (string, error) {
	m := machines[runtime.GOARCH]
	d.VCPUs = max(d.VCPUs, 1)
	cpu := m.cpuTCG
	if d.Accel == "kvm" {
		cpu = m.cpuKVM
	}
	type machineXML struct{ Arch, Kind, CPU string }
	var out strings.Builder
	err := domainXML.Execute(&out, struct {
		Domain
		Cmdline string
		Machine machineXML
	}{
		Domain:  d,
		Cmdline: strings.Join(append([]string{"console=" + m.console, "quiet", "panic=-1"}, d.Ask...), " "),
		Machine: machineXML{Arch: m.arch, Kind: m.kind, CPU: cpu},
	})
	return out.String(), err
}

// escape makes text fit for an XML element or a quoted attribute.
func escape(text string) (string, error) {
	var out bytes.Buffer
	err := xml.EscapeText(&out, []byte(text))
	return out.String(), err
}
