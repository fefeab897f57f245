/** Every text, sign and border that is visible, with its contrast to what is behind it: [what, ratio, is enough]. */
() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (colour, under = [255, 255, 255]) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = `rgb(${under})`;
        canvas.fillRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const ground = (element) =>
        element ? rgb(getComputedStyle(element).backgroundColor, ground(element.parentElement)) : [255, 255, 255];
    const light = (colour) => {
        const [r, g, b] = colour.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (one, other) => {
        const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    const measure = (element, colour, least, what) => {
        const under = ground(element);
        const measured = ratio(rgb(colour, under), under);
        found.push([what, Math.round(measured * 100) / 100, measured >= least]);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.nodeValue.trim() || !element.checkVisibility({ visibilityProperty: true }) || element.closest(".unseen")) continue;
        measure(element, getComputedStyle(element).color, 4.5, texts.currentNode.nodeValue);
    }
    for (const area of document.querySelectorAll("textarea, input:not([type=checkbox])")) {
        if (!area.checkVisibility({ visibilityProperty: true })) continue;
        measure(area, getComputedStyle(area, "::placeholder").color, 4.5, "placeholder");
        const border = area.closest(".composer") ?? area;
        measure(border.parentElement, getComputedStyle(border).borderTopColor, 3, "border of what can be filled in");
    }
    for (const sign of document.querySelectorAll(".icon, .dot")) {
        if (!sign.checkVisibility({ visibilityProperty: true })) continue;
        const style = getComputedStyle(sign);
        measure(sign.parentElement, sign.matches(".dot") ? style.borderTopColor : style.stroke, 3, sign.getAttribute("class"));
    }
    return found;
}
