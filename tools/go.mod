// Programs that build releases of t5ctl. They have their own module, so that what they need is
// none of t5ctl's dependencies.
module github.com/t5ctl/t5ctl/tools

go 1.26.5

require github.com/CycloneDX/cyclonedx-go v0.11.0
