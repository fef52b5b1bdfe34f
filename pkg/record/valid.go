package record

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var (
	addrType   = reflect.TypeFor[netip.Addr]()
	prefixType = reflect.TypeFor[netip.Prefix]()
)

// validate refuses a record whose steps would touch other links than the pod
// interface and podwire's own two: a file must not be a way to reach further. Nor may
// it hold what the rest of podwire takes for granted and does not look at again. The
// settings are looked at apart.
func (r Record) validate(podInterface string) error {
	i := r.Interface
	switch {
	case i.PodInterface != podInterface:
		return &damage{"interface.podInterface", i.PodInterface, strconv.Quote(podInterface) + ", as the file is called"}
	case !slices.Contains([]Phase{Recorded, Applied, Undoing}, r.Phase):
		return &damage{"phase", string(r.Phase), "recorded, applied or undoing"}
	case i.Tap != ownTap(i):
		return &damage{"interface.tap", i.Tap, strconv.Quote(ownTap(i))}
	case i.Bridge != "" && i.Bridge != plan.BridgeName(podInterface):
		return &damage{"interface.bridge", i.Bridge, strconv.Quote(plan.BridgeName(podInterface))}
	}
	for n, step := range r.Steps {
		if bad := ownStep(step, i, r.Snapshot); bad != nil {
			bad.path = "steps[" + strconv.Itoa(n) + "] (" + step.Kind() + "): " + bad.path
			return bad
		}
	}
	if bad := unset(reflect.ValueOf(r), ""); bad != nil {
		return bad
	}
	return nil
}

// ownTap is what the hypervisor opens: a macvtap is that itself.
func ownTap(i plan.Interface) string {
	if i.Binding == config.Macvtap {
		return i.PodInterface
	}
	return plan.TapName(i.PodInterface)
}

// ownStep says what of a step is another's.
func ownStep(step plan.Step, i plan.Interface, before netstate.Snapshot) *damage {
	var made []string
	for _, name := range []string{i.Tap, i.Bridge} {
		if name != "" && name != i.PodInterface { // which a macvtap is, and nobody makes
			made = append(made, name)
		}
	}
	own := append(slices.Clip(made), i.PodInterface)
	switch s := step.(type) {
	case plan.CreateTap:
		return oneOf("name", s.Name, made)
	case plan.CreateBridge:
		return oneOf("name", s.Name, made)
	case plan.AddAddresses:
		return oneOf("link", s.Link, made)
	case plan.AttachPort:
		if s.Bridge != i.Bridge {
			return &damage{"bridge", s.Bridge, strconv.Quote(i.Bridge)}
		}
	case plan.Redirect:
		if bad := oneOf("to", s.To, own); bad != nil {
			return bad
		}
	case plan.SetOption:
		return ownOption(s, own, before)
	case plan.Translate:
		if want := plan.TableName(i.PodInterface); s.Table != want {
			return &damage{"table", s.Table, strconv.Quote(want)}
		}
	}
	return oneOf("link", step.On(), own)
}

// ownOption also lets another link of the pod pass, by which answers for the guest may
// come. The names are parts of a path.
func ownOption(s plan.SetOption, own []string, before netstate.Snapshot) *damage {
	_, ofPod := before.LinkByName(s.Link)
	switch {
	case !filepath.IsLocal(s.Link) || filepath.Base(s.Link) != s.Link:
		return &damage{"link", s.Link, "the name of a link"}
	case !ofPod && s.Link != plan.AllLinks && !slices.Contains(own, s.Link):
		return &damage{"link", s.Link, "a link of the pod"}
	case !plan.KnownOption(s):
		return &damage{"option", s.Option, "one that podwire sets"}
	}
	return nil
}

func oneOf(field, value string, allowed []string) *damage {
	if slices.Contains(allowed, value) {
		return nil
	}
	if len(allowed) == 0 {
		return &damage{field, value, "no such step with this binding"}
	}
	return &damage{field, value, "one of " + strings.Join(allowed, ", ")}
}

// unset finds an address that is missing where there must be one. It walks all of a
// record, so that what is added to it is looked at as well.
func unset(v reflect.Value, path string) *damage {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return unset(v.Elem(), path)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if bad := unset(v.Index(i), path+"["+strconv.Itoa(i)+"]"); bad != nil {
				return bad
			}
		}
	case reflect.Struct:
		if v.Type() == addrType || v.Type() == prefixType {
			if v.IsZero() {
				return &damage{strings.TrimPrefix(path, "."), "", wanted(v.Type())}
			}
			return nil
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if name, options, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" && f.IsExported() && !strings.Contains(options, "omitzero") {
				if bad := unset(v.Field(i), path+"."+jsonName(f)); bad != nil {
					return bad
				}
			}
		}
	default: // it holds no address
	}
	return nil
}
