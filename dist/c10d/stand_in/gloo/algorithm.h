// Stand-ins for Gloo's headers: libtorch ships ProcessGroupGloo.hpp, which includes them, but not
// them. They declare the names that it needs. The group holds Gloo's objects by shared_ptr only, so
// its layout comes from libtorch's header, and its functions from libtorch's library.
#pragma once
