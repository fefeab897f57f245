/** What has the focus (its place in the page, its name), and whether one sees that. */
() => {
    const at = document.activeElement;
    if (at === document.body) return [0, "", true];
    const style = getComputedStyle(at);
    const box = at.closest(".composer");
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const boxed = box !== null && getComputedStyle(box).boxShadow !== "none";
    const place = [...document.querySelectorAll("*")].indexOf(at);
    return [place, at.id || at.getAttribute("aria-label") || at.textContent, outlined || boxed];
}
